"""What engine and zygote say to each other, one packet each: words with spaces between them. Used by: engine, zygote.

    engine: fork ID                     fork a shim for this task
    zygote: gone ID STATUS [FAILURE]    it left, or could not be forked

STATUS is the shim's exit status, -N when signal N ended it; FAILURE is there if the task did not run, and says why
(supervisor/spool/start_failure.py). A receiver ignores a packet that it does not understand, and words behind those
that it knows. Not JSON: each page of memory that the zygote writes to after a fork stays that shim's own, and to
read JSON is 100 KiB of them.

levity is upgraded under a running engine, which then has a newer zygote as soon as the one it has is killed. An engine
of before there were verbs boots the zygote without `verbs`; its packets are the bare id, and `gone ID STATUS`, where
the low six bits of a status over 0 hold an errno and the others whose call it was.
"""

import errno

from supervisor.spool.layout import is_task_id
from supervisor.spool.start_failure import DIRECTORY, EXEC, StartFailure

__all__ = ["PACKET_LIMIT", "VERBS", "Gone", "fork_packet", "gone_packet", "parse_fork", "parse_gone"]

PACKET_LIMIT = 512
# The version of these messages.
VERBS = 1

_FORK, _FORK_SIZE = b"fork ", 5
_ID_SIZE = 36

_OLD_ERRNO_LIMIT = 0x3F
_OLD_FLAGS = {DIRECTORY: 0x40, EXEC: 0x80}


class Gone:
    """A shim has left, or could not be forked."""

    __slots__ = ("failure", "id", "status")

    def __init__(self, id: str, status: int, failure: StartFailure | None) -> None:
        self.id = id
        self.status = status
        self.failure = failure

    def __repr__(self) -> str:
        return f"<Gone {self.id} {self.status} {self.failure}>"


def fork_packet(task_id: str) -> bytes:
    """Return what the engine sends to have a shim forked."""
    return f"fork {task_id}".encode("ascii")


def parse_fork(packet: bytes) -> str:
    """Return the id for which a shim is to be forked; "" for a packet that asks for nothing that is known.

    As little as possible is touched here, for the zygote does it: each page that it writes to after a fork stays that
    shim's own. A regular expression and a list would be 40 KiB.
    """
    if packet.startswith(_FORK):
        packet = packet[_FORK_SIZE : _FORK_SIZE + _ID_SIZE]
    # Digits, letters and hyphens: whatever it is, it is the name of no directory elsewhere.
    is_id = len(packet) == _ID_SIZE and packet.replace(b"-", b"").isalnum()
    return packet.decode("ascii") if is_id else ""


def gone_packet(gone: Gone, verbs: int) -> bytes:
    """Return what the zygote sends when a shim has left, in the form that this engine understands."""
    if verbs < VERBS:
        return f"gone {gone.id} {_old_status(gone)}".encode("ascii")
    failure = f" {gone.failure.to_text()}" if gone.failure is not None else ""
    return f"gone {gone.id} {gone.status}{failure}".encode("ascii")


def _old_status(gone: Gone) -> int:
    if gone.failure is None:
        return gone.status
    number = gone.failure.errno
    return number | _OLD_FLAGS.get(gone.failure.stage, 0) if 0 < number <= _OLD_ERRNO_LIMIT else errno.EIO


def parse_gone(packet: bytes) -> Gone | None:
    """Return which shim has left; None for a packet that says something else."""
    words = packet.decode("ascii", "replace").split()
    if len(words) < 3 or words[0] != "gone" or not is_task_id(words[1]):
        return None
    try:
        status = int(words[2])
    except ValueError:
        return None
    return Gone(words[1], status, StartFailure.from_text(words[3]) if len(words) > 3 else None)
