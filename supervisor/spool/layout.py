"""The names in a state directory. Runs in: every supervisor process. Owns: nothing."""

import re

__all__ = [
    "CONTROL",
    "DISK_ERROR_BYTE",
    "ENGINE_SOCKET",
    "EXIT",
    "LOCK",
    "NO_SPACE_BYTE",
    "OUTPUT_MODE",
    "PRIVATE_MODE",
    "REMOVED",
    "SHIM",
    "SPEC",
    "STARTED",
    "START_BYTE",
    "STDIN",
    "STDIN_CLOSED",
    "STDIN_END",
    "STREAMS",
    "TASKS",
    "WATCH_BYTE",
    "index_name",
    "is_task_id",
    "parse_segment",
    "segment_name",
    "task_path",
]

TASKS = "tasks"
ENGINE_SOCKET = "engine.sock"

SPEC = "spec.json"
SHIM = "shim.json"
# Renamed to SHIM as soon as the command is executed.
STARTED = "shim.json.started"
EXIT = "exit.json"
LOCK = "lock"
# The bytes of LOCK: the shim's, for as long as it lives; and its child's, from before it writes SHIM until execve(2).
WATCH_BYTE, START_BYTE = 0, 1
# Held by the shim while output cannot be stored, because there is no space or for another reason of the disk's. A lock
# takes no space on the disk, as a record would.
NO_SPACE_BYTE, DISK_ERROR_BYTE = 2, 3
CONTROL = "control"
# The front-end must be able to read what clients may see: the output, its index and EXIT. Where levityd is root and the
# front-end is not, the directory has the front-end's group. Elsewhere the umask takes the group's rights away.
PRIVATE_MODE, OUTPUT_MODE = 0o600, 0o640
# Made before the output of a task that is over is removed, so that a reader does not take the gap for damage.
REMOVED = "output.removed"

# A task's input, where a client sends it. STDIN is a FIFO that is there for as long as input is taken; only a task of
# levity 0.1 reads from it. The input itself is in a spool, from which the shim fills a pipe without a name: segments
# named by offset, removed once the task has read them. Two marks: the input ends with the last segment, and the task
# reads no more of it.
STDIN = "stdin"
STDIN_END = "stdin.end"
STDIN_CLOSED = "stdin.closed"

# The number of each stream on the wire and in the index, and its name in files and for people.
STREAMS = {1: "stdout", 2: "stderr"}

_TASK_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SEGMENT = re.compile(r"(stdout|stderr|index|stdin)\.([0-9]{16,20})(?:\.log)?")


def is_task_id(text: str) -> bool:
    """Whether `text` is a task's id: a UUID in lower case (so it is a safe file name, too)."""
    return len(text) == 36 and _TASK_ID.fullmatch(text) is not None


def task_path(task_id: str) -> str:
    """Return a task's directory, relative to the state directory."""
    return f"{TASKS}/{task_id}"


def segment_name(stream: str, offset: int) -> str:
    """Return the file that holds a stream from `offset` on; padded, so that `cat stdout.*` has them in order."""
    return f"{stream}.{offset:016d}.log"


def index_name(first_sequence: int) -> str:
    """Return the index file whose first record has this sequence number."""
    return f"index.{first_sequence:016d}"


def parse_segment(name: str) -> tuple[str, int] | None:
    """Return ("stdout", "stderr", "stdin" or "index", offset) of a file name; None for any other file."""
    match = _SEGMENT.fullmatch(name)
    return (match[1], int(match[2])) if match else None
