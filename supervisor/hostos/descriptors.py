"""A process's own descriptors: which are open, how many may be, and pipes to itself.

Runs in: every supervisor process. Owns: nothing.
"""

import os
import resource
import signal
from collections.abc import Iterable

__all__ = [
    "close_all_but",
    "descriptor_limit_of_tasks",
    "drain",
    "normalise_standard_streams",
    "raise_descriptor_limit",
    "self_pipe",
    "signal_pipe",
]

# The soft limit that levityd was started with, for its own processes; tasks do not get the variable.
_LIMIT_VARIABLE = "LEVITY_DESCRIPTOR_LIMIT"
_DRAIN_SIZE = 4096


def normalise_standard_streams() -> None:
    """Open /dev/null on each of 0, 1, 2 that is closed, so that no later file lands there."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor above 2 but those in `kept`."""
    try:
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    except (OSError, ValueError):
        highest = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536)
    start = 3
    for fd in sorted({fd for fd in kept if fd > 2}):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, highest + 1)


def raise_descriptor_limit() -> None:
    """Raise the soft limit on open files to the hard one: the engine holds one for each live task."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.environ.setdefault(_LIMIT_VARIABLE, str(soft))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass  # The hard limit is unlimited, and the kernel allows less: the soft one stays.


def descriptor_limit_of_tasks() -> tuple[int, int]:
    """Return the soft and hard limit on open files for a task: those from before `raise_descriptor_limit`.

    Programs that use select(2) break with more than 1024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(os.environ.get(_LIMIT_VARIABLE, soft)), hard


def self_pipe() -> tuple[int, int]:
    """Return the two ends of a pipe with which a process wakes itself: neither end ever blocks."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return read_end, write_end


def signal_pipe() -> tuple[int, int]:
    """Return a self-pipe to which Python writes a byte for each signal that has a handler of Python's."""
    read_end, write_end = self_pipe()
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    return read_end, write_end


def drain(fd: int) -> None:
    """Throw away what is in a pipe that does not block."""
    try:
        while len(os.read(fd, _DRAIN_SIZE)) == _DRAIN_SIZE:
            pass
    except BlockingIOError:
        pass
