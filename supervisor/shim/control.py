"""The control FIFO of a task: commands to its shim (supervisor/spool/commands.py). Runs in: shim. Owns: nothing.

The shim opens it for reading and writing: so it never sees an end of file between two writers, and writers get ENXIO
(fifo(7)) exactly when no shim is there.
"""

import os

from supervisor.spool.commands import CommandDecoder
from supervisor.spool.layout import CONTROL
from supervisor.spool.records import JsonObject

__all__ = ["ControlReader", "make_control"]


def make_control(directory_fd: int) -> int:
    """Make the FIFO and return its listening end; FileExistsError if a shim made it already."""
    os.mkfifo(CONTROL, 0o600, dir_fd=directory_fd)
    return os.open(CONTROL, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)


class ControlReader:
    """Takes commands from the listening end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._decoder = CommandDecoder()

    def commands(self) -> list[JsonObject]:
        """Return the commands that have arrived; the rest is ignored."""
        try:
            return self._decoder.feed(os.read(self.fd, 65536))
        except BlockingIOError:
            return []
