"""Move a task's input from its spool to the pipe that it reads. Runs in: shim. Owns: the pipe's writing end.

The engine writes segments, and a mark once there will be no more. A segment that the task has taken is removed, by
which the front-end sees that there is room. The task may read when it likes, or never: the shim does not wait for it.

A pipe and not the FIFO in the directory: a FIFO can only be opened while a process writes to it, so a task that opens
/dev/stdin after the end of its input would wait for ever. The FIFO says that there is input, and no process opens it.
"""

import os
import select
import time
from collections.abc import Callable

from supervisor.hostos.files import make_mark, open_to_read
from supervisor.spool.layout import STDIN, STDIN_CLOSED, STDIN_END, segment_name

__all__ = ["StdinPump", "discard_input", "open_input"]

_READ_SIZE = 64 * 1024
_DISK_RETRY_S = 0.25
_NONE = (-1, -1)
_DONE = -1


def open_input(directory_fd: int) -> tuple[int, int]:
    """Return the reading and the writing end of the pipe for a task's input; (-1, -1) if it takes none."""
    if not os.access(STDIN, os.F_OK, dir_fd=directory_fd):
        return _NONE
    return os.pipe()


def discard_input(directory_fd: int) -> None:
    """Remove what is left of the input of a task that is over.

    The FIFO goes first: an engine that adds to the input and finds it afterwards knows that its addition is looked at.
    """
    _unlink(directory_fd, STDIN)
    for name in os.listdir(directory_fd):
        if name.startswith(f"{STDIN}."):
            _unlink(directory_fd, name)


def _unlink(directory_fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory_fd)
    except OSError:
        pass  # The disk takes no change, or another process was faster.


def _mark_closed(directory_fd: int) -> None:
    try:
        make_mark(STDIN_CLOSED, directory_fd)
    except OSError:
        pass  # A full disk: the client is not told to stop, and sends until there is no room.


class StdinPump:
    """The input of one task.

    `fd`, the pipe's writing end, is known to the poller while the pipe is full, and closed when the input has ended.
    `retry_at` is when to call `pump` again because the disk could not be read, else None.
    """

    def __init__(
        self, directory_fd: int, fd: int, poller: select.poll, clock: Callable[[], float] = time.monotonic
    ) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.retry_at: float | None = None
        self._directory_fd = directory_fd
        self._poller = poller
        self._clock = clock
        self._is_full = False
        self._offset = 0
        self._base = 0
        self._segment = -1
        self._chunk = memoryview(b"")

    def __repr__(self) -> str:
        return f"<StdinPump {self._offset} B{' closed' if self.fd < 0 else ''}>"

    def pump(self) -> None:
        """Write what there is and the pipe takes; have the poller wait for the task if the pipe is full."""
        fd, was_full = self.fd, self._is_full
        self.retry_at = None
        try:
            self._is_full = self._fill()
        except OSError:
            # The disk cannot be read now; nothing was taken from it yet.
            self._is_full = False
            self.retry_at = self._clock() + _DISK_RETRY_S
        if self._is_full and not was_full:
            self._poller.register(fd, select.POLLOUT)
        elif was_full and not self._is_full:
            self._poller.unregister(fd)

    def _fill(self) -> bool:
        """Return whether the pipe is full."""
        if self.fd < 0:
            return False
        # The mark is made after the last byte, so it is looked for before the last byte is.
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
