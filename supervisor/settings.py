"""What levityd was told.

One frozen object, checked at the edge, handed down in parts. Runs in: arbiter. Owns: nothing.
"""

from dataclasses import dataclass

from levity.addresses import Address

__all__ = ["LOCK_FILE", "LockByte", "Settings"]

# One file, a byte for each process that must exist only once (supervisor/hostos/locks.py).
LOCK_FILE = "levityd.lock"


class LockByte:
    """Which byte of LOCK_FILE is whose."""

    ARBITER, ENGINE, FRONT_END = 0, 1, 2


@dataclass(frozen=True)
class Settings:
    """The settings of one levityd: `state_dir` is absolute."""

    address: Address
    state_dir: str
