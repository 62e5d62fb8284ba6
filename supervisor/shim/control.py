"""The control FIFO of a task: commands to its shim, a JSON line each. Runs in: shim. Owns: nothing.

The shim opens it for reading and writing: so it never sees an end of file between two writers, and writers get ENXIO
(fifo(7)) exactly when no shim is there.
"""

import json
import os

from supervisor.spool.layout import CONTROL
from supervisor.spool.records import JsonObject

__all__ = ["ControlReader", "make_control"]

# A writer's line is at most PIPE_BUF (4096) bytes, which the kernel keeps in one piece.
_LINE_LIMIT = 4096


def make_control(directory_fd: int) -> int:
    """Make the FIFO and return its listening end; FileExistsError if a shim made it already."""
    os.mkfifo(CONTROL, 0o600, dir_fd=directory_fd)
    return os.open(CONTROL, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)


class ControlReader:
    """Takes commands from the listening end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = b""

    def commands(self) -> list[JsonObject]:
        """Return the commands that have arrived; a line that is none is dropped."""
        try:
            self._buffer += os.read(self.fd, 65536)
        except BlockingIOError:
            return []
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest if len(rest) <= _LINE_LIMIT else b""
        return [command for line in lines if (command := _parse(line)) is not None]


def _parse(line: bytes) -> JsonObject | None:
    try:
        command = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return command if isinstance(command, dict) else None
