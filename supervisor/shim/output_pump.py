"""Move a task's output from its pipes to its spool. Runs in: shim. Owns: the reading ends of both pipes, the spool.

While the disk takes nothing, nothing is read: the pipes fill and the task waits. No byte is dropped.
"""

import errno
import fcntl
import os
import select
import sys
import termios
import time
from collections.abc import Callable

from supervisor.hostos.locks import try_lock, unlock
from supervisor.shim.hint import Hint
from supervisor.shim.termination import Event, Termination
from supervisor.spool.files import is_removed
from supervisor.spool.layout import DISK_ERROR_BYTE, NO_SPACE_BYTE
from supervisor.spool.writer import SpoolWriter

__all__ = ["OutputPump", "available"]

# A pipe holds 64 KiB (pipe(7)). One that is found full is made larger, once: fewer, larger reads; measured 1.2 to 2
# times the throughput. Not from the start: the memory of all pipes of a user is limited (fs.pipe-user-pages-soft).
_PIPE_SIZE = 64 * 1024
_LARGE_PIPE_SIZE = 256 * 1024
_DISK_RETRY_S = 0.25
_NOTICE_S = 1.0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def available(fd: int) -> int:
    """Return how many bytes are in a pipe (FIONREAD, ioctl_pipe(2))."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


class OutputPump:
    """The output of one task; `retry_at` is when to call `retry`, None while the disk takes output."""

    def __init__(
        self,
        taken: tuple[int, int],
        outputs: tuple[int, int],
        log_cap: Callable[[], int],
        poller: select.poll,
        hint: Hint,
        termination: Termination,
        *,
        clock: Callable[[], float] = time.monotonic,
        available: Callable[[int], int] = available,
    ) -> None:
        """Take over the pipes of stdout and stderr, which `poller` knows. `taken`: the task's directory and lock.

        `log_cap` as in SpoolWriter. What the disk does is told to the engine by `hint`, and to `termination`.
        """
        self._directory_fd, self._lock_fd = taken
        self.writer = SpoolWriter(self._directory_fd, log_cap)
        self.retry_at: float | None = None
        self._streams = dict(zip(outputs, (1, 2), strict=True))  # read end -> stream number
        self._read_size = dict.fromkeys(outputs, _PIPE_SIZE)
        self._poller = poller
        self._hint = hint
        self._termination = termination
        self._clock = clock
        self._available = available
        self._notice_at = 0.0
        for fd in outputs:
            os.set_blocking(fd, False)

    def __repr__(self) -> str:
        return f"<OutputPump {sorted(self._streams.values())} {self.writer}>"

    @property
    def is_done(self) -> bool:
        """Whether both streams have ended and all of them is stored."""
        return not self._streams and not self.writer.is_blocked

    def read(self, ready: list[int]) -> None:
        """Read the streams of these descriptors, in the order in which their bytes came as far as that can be known.

        What is in a pipe when it is looked at is older than what comes to the other one afterwards. So no more is read
        than that, unless there is only one pipe. Of bytes that are in both pipes, the order is lost.
        """
        ready = [fd for fd in ready if fd in self._streams]
        if len(self._streams) == 1:
            for fd in ready:
                self._read(fd, self._read_size[fd])
        elif ready:
            amounts = {fd: self._available(fd) for fd in ready}
            for fd in self._streams:
                if fd not in amounts and (amount := self._available(fd)):
                    amounts[fd] = amount
            for fd, amount in amounts.items():
                # A pipe that is ready and empty has ended.
                self._read(fd, min(amount or 1, self._read_size[fd]))

    def retry(self) -> None:
        """Try again to store what the disk refused."""
        self.retry_at = None
        self._store(self.writer.flush)

    def seal(self) -> None:
        """Read what the pipes hold, and no more: only an outsider can still write to them.

        If the disk refuses some of it, `termination` has been told, and asks for this again.
        """
        for fd in list(self._streams):
            left = self._available(fd)
            while left > 0 and not self.writer.is_blocked:
                amount = min(left, self._read_size[fd])  # Reading may raise that size.
                self._read(fd, amount)
                left -= amount
            self._read(fd, 1)  # Its end, if no process has it open.
        if self.writer.is_blocked:
            return
        for fd in list(self._streams):
            self._termination.on(Event.HELD_OPEN, self._clock())
            self._close(fd)

    def _read(self, fd: int, amount: int) -> None:
        if self.writer.is_blocked:
            return
        try:
            data = os.read(fd, amount)
        except BlockingIOError:
            return
        if not data:
            self._close(fd)
            return
        if len(data) == _PIPE_SIZE == self._read_size[fd]:
            self._enlarge(fd)
        stream, time_ns = self._streams[fd], time.time_ns()
        self._store(lambda: self.writer.write(stream, data, time_ns))

    def _close(self, fd: int) -> None:
        if not self.writer.is_blocked:
            self._poller.unregister(fd)
        os.close(fd)
        del self._streams[fd]

    def _enlarge(self, fd: int) -> None:
        self._read_size[fd] = _LARGE_PIPE_SIZE
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _LARGE_PIPE_SIZE)
        except (OSError, AttributeError):
            pass  # The user's limit is reached (EPERM), or the system has no such call.

    def _store(self, write: Callable[[], None]) -> None:
        was_blocked, rotations = self.writer.is_blocked, self.writer.rotations
        try:
            write()
        except OSError as error:
            if is_removed(self._directory_fd):
                raise  # The task's directory was removed, so no client can find the task: it ends with its shim.
            # ENOSPC, EDQUOT, EFBIG and EIO alike: no byte may be dropped, so try again until it is possible.
            self.retry_at = self._clock() + _DISK_RETRY_S
            if not was_blocked:
                try_lock(self._lock_fd, NO_SPACE_BYTE if error.errno in _NO_SPACE else DISK_ERROR_BYTE)
        now = self._clock()
        if self.writer.rotations != rotations and now >= self._notice_at:
            # All tasks together may store only so much; the engine hears of a flood now and then.
            self._notice_at = now + _NOTICE_S
            self._hint.send(now)
        if self.writer.is_blocked != was_blocked:
            self._turn(now)

    def _turn(self, now: float) -> None:
        """The disk has stopped taking output, or takes it again."""
        is_blocked = self.writer.is_blocked
        if not is_blocked:
            unlock(self._lock_fd, NO_SPACE_BYTE)
            unlock(self._lock_fd, DISK_ERROR_BYTE)
        self._termination.on(Event.BLOCKED if is_blocked else Event.UNBLOCKED, now)
        self._hint.send(now)
        for fd in self._streams:
            # Not modify(fd, 0): poll(2) reports the end of a pipe nevertheless, again and again.
            if is_blocked:
                self._poller.unregister(fd)
            else:
                self._poller.register(fd, select.POLLIN)
