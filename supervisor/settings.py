"""The settings of a levityd: frozen, checked at the edge, handed down in parts.

Runs in: arbiter, engine, front-end. Owns: nothing.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from levity.addresses import Address

__all__ = [
    "FRONT_END_LOCK_FILE",
    "LOCK_FILE",
    "TICKET_KEY",
    "Access",
    "Keeping",
    "Known",
    "LockByte",
    "Settings",
    "Tls",
]

# One file, a byte for each process that must exist only once (supervisor/hostos/locks.py).
LOCK_FILE = "levityd.lock"
# A file for the front-end alone: an attacker who takes the front-end over has that file open, but not LOCK_FILE, and so
# cannot lock the bytes of the others.
FRONT_END_LOCK_FILE = "frontend.lock"
# The key that signs the tickets of clients (supervisor/engine/access/tickets.py), for as long as levityd runs.
TICKET_KEY = "ticket.key"


class LockByte:
    """Which byte of LOCK_FILE is whose."""

    ARBITER, ENGINE = 0, 1


@dataclass(frozen=True)
class Keeping:
    """How much output of tasks is kept, in bytes; 0 is no limit.

    `log_cap` limits the output of one task, and `log_quota` that of all tasks that are over. `min_free` stays free on
    the disk (None: it depends on the size of the disk). The output of a task is kept for at least `min_age_s` seconds
    after its end, for a client may be reading it, unless another task waits for the room.
    """

    log_cap: int = 2**30
    log_quota: int = 10 * 2**30
    min_free: int | None = None
    min_age_s: float = 60.0


class Known(StrEnum):
    """How levityd knows who a client is: from the kernel (unix socket), by a token, or by a certificate of our CA."""

    PEER = "peer"
    TOKEN = "token"  # noqa: S105 - the word, not a token
    CERTIFICATE = "certificate"


@dataclass(frozen=True)
class Tls:
    """What the front-end needs to speak TLS, all in PEM. With a `client_ca`, clients must have a certificate of it."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None


@dataclass(frozen=True)
class Access:
    """How clients get in. `tls` is None where no connection leaves the host.

    `crl_path` is absolute; the file is read again when it changes. `frontend_ids` are the user and group that the
    front-end becomes where levityd is root, else None.
    """

    known: Known = Known.PEER
    tls: Tls | None = None
    crl_path: str | None = None
    frontend_ids: tuple[int, int] | None = None


@dataclass(frozen=True)
class Settings:
    """The settings of one levityd: `state_dir` is absolute."""

    address: Address
    state_dir: str
    keeping: Keeping = Keeping()
    access: Access = Access()
