"""Feed a task's input from its spool to the pipe that it reads. Runs in: shim. Owns: the pipe's writing end.

The engine writes segments, and a mark once there will be no more; a segment that the task has taken is removed, by
which the front-end sees that there is room. The task may read when it likes, or never: nobody waits for it here.

A pipe and not the FIFO in the directory: that can only be opened while somebody writes to it, so a task that opens
/dev/stdin after the end of its input would wait for ever. The FIFO says that there is input, and nobody opens it.
"""

import os

from supervisor.hostos.files import make_mark, open_to_read
from supervisor.spool.layout import STDIN, STDIN_CLOSED, STDIN_END, segment_name

__all__ = ["Feeder", "discard_input", "open_input"]

_READ_SIZE = 64 * 1024
_NONE = (-1, -1)
_DONE = -1


def open_input(directory_fd: int) -> tuple[int, int]:
    """Return the reading and the writing end of the pipe for a task's input; (-1, -1) if it takes none."""
    if not os.access(STDIN, os.F_OK, dir_fd=directory_fd):
        return _NONE
    return os.pipe()


def discard_input(directory_fd: int) -> None:
    """Remove what is left of the input of a task that is over.

    The FIFO goes first: whoever finds it after adding to the input knows that what was added is looked at.
    """
    _unlink(directory_fd, STDIN)
    for name in os.listdir(directory_fd):
        if name.startswith(f"{STDIN}."):
            _unlink(directory_fd, name)


def _unlink(directory_fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory_fd)
    except OSError:
        pass  # A disk that takes no change, or somebody was faster.


def _mark_closed(directory_fd: int) -> None:
    try:
        make_mark(STDIN_CLOSED, directory_fd)
    except OSError:
        pass  # A full disk: who sends input is not told to stop, and sends until there is no room.


class Feeder:
    """The input of one task; `fd` is the pipe's writing end, which is closed when the input has ended."""

    def __init__(self, directory_fd: int, fd: int) -> None:
        os.set_blocking(fd, False)
        self._directory_fd = directory_fd
        self.fd = fd
        self._offset = 0
        self._base = 0
        self._segment = -1
        self._chunk = memoryview(b"")

    def __repr__(self) -> str:
        return f"<Feeder {self._offset} B{' closed' if self.fd < 0 else ''}>"

    def feed(self) -> bool:
        """Write what there is and the pipe takes; return whether it is full, and has to be waited for."""
        if self.fd < 0:
            return False
        # The mark is made after the last byte, so it is looked for before.
        is_last = os.access(STDIN_END, os.F_OK, dir_fd=self._directory_fd)
        try:
            while self._chunk or self._take():
                done = os.write(self.fd, self._chunk)
                self._offset += done
                self._chunk = self._chunk[done:]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            _mark_closed(self._directory_fd)
            is_last = True
        if is_last:
            self._close()
        return False

    def _take(self) -> bool:
        """Read the next chunk; False if there is none yet."""
        if self._segment < 0 and not self._open(0):
            return False
        while not (data := os.pread(self._segment, _READ_SIZE, self._offset - self._base)):
            taken = self._base
            if self._offset == taken or not self._open(self._offset):
                return False
            _unlink(self._directory_fd, segment_name(STDIN, taken))
        self._chunk = memoryview(data)
        return True

    def _open(self, base: int) -> bool:
        """Go on with the segment that begins at `base`; False if it is not there."""
        try:
            fd = open_to_read(segment_name(STDIN, base), self._directory_fd)
        except FileNotFoundError:
            return False
        if self._segment >= 0:
            os.close(self._segment)
        self._segment, self._base = fd, base
        return True

    def _close(self) -> None:
        os.close(self.fd)
        self.fd = _DONE
        self._chunk = memoryview(b"")
        if self._segment >= 0:
            os.close(self._segment)
            self._segment = -1
