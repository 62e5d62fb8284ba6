"""Watch one running task to its end. Runs in: shim. Owns: its task's pipes, spool, wait and kill timer."""

import errno
import fcntl
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable

from supervisor.hostos.locks import try_lock, unlock
from supervisor.shim.control import ControlReader
from supervisor.shim.hint import Hint
from supervisor.shim.stdin_pump import Feeder
from supervisor.shim.termination import Action, Course
from supervisor.shim.tree import has_living_children, kill_tree, reap_all_but, signal_group, signal_tree
from supervisor.spool.commands import STDIN
from supervisor.spool.files import insist, is_removed, load_record, write_record
from supervisor.spool.layout import DISK_ERROR_BYTE, NO_SPACE_BYTE, SHIM
from supervisor.spool.records import DEFAULT_GRACE_S, ShimRecord
from supervisor.spool.writer import SpoolWriter

__all__ = ["Monitor"]

# A pipe holds 64 KiB (pipe(7)). One that is found full is made larger, once: fewer, larger reads; measured 1.2 to 2
# times the throughput. Not from the start: the memory of all pipes of a user is limited (fs.pipe-user-pages-soft).
_PIPE_SIZE = 64 * 1024
_LARGE_PIPE_SIZE = 256 * 1024
_DISK_RETRY_S = 0.25
_NOTICE_S = 1.0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

_GENTLE = (signal.SIGTERM, signal.SIGCONT)  # A stopped process acts on SIGTERM only once it goes on.


class Monitor:
    """The loop around one task, until its tree is gone and its output is stored."""

    def __init__(
        self,
        taken: tuple[int, int],
        leader: int,
        fds: tuple[int, int, int, int],
        stdin: int,
        poller: select.poll,
        hint: Hint,
        drain_s: float,
    ) -> None:
        """Take over a task that runs. `taken`: its directory and lock.

        `fds`, all known to `poller`: control FIFO, what wakes, stdout and stderr. `stdin`: -1 if nobody sends input.
        """
        directory_fd, self._lock_fd = taken
        control, self._wakeup_fd, stdout, stderr = fds
        self.course = Course(drain_s)
        self.writer = SpoolWriter(directory_fd, lambda: self.facts().log_cap)
        self._feeder = None if stdin < 0 else Feeder(directory_fd, stdin)
        self._feeds = False
        self.leader = leader
        self.exit_info: os.waitid_result | None = None
        self.ended_ns = 0
        self._directory_fd = directory_fd
        self._streams = {stdout: 1, stderr: 2}  # read end -> stream number
        self._read_size = dict.fromkeys(self._streams, _PIPE_SIZE)
        self._control = ControlReader(control)
        self._hint = hint
        self._facts: ShimRecord | None = None
        self._unsaved = False
        self._retry_at: float | None = None
        self._feed_at: float | None = None
        self._notice_at = 0.0
        self._tree_gone = False
        self._poller = poller
        for fd in fds:
            os.set_blocking(fd, False)

    def __repr__(self) -> str:
        return f"<Monitor of {self.leader} {self.course} {self.writer}>"

    def run(self) -> None:
        """Return when the task is over and its output is complete (or sealed: `course.sealed`)."""
        self._check_children()
        self._feed()  # What was sent before anybody listened.
        while self._streams or not self._tree_gone or self.writer.is_blocked:
            ready = [fd for fd, _events in self._poller.poll(self._timeout_ms())]
            self._read_all([fd for fd in ready if fd in self._streams])
            for fd in ready:
                if fd == self._wakeup_fd:
                    _drain(fd)
                elif fd == self._control.fd:
                    self._obey()
                elif self._feeds:
                    self._feed()
            self._check_children()
            self._on_time(time.monotonic())

    @property
    def has_input(self) -> bool:
        """Whether a client may send input to the task."""
        return self._feeder is not None

    def facts(self) -> ShimRecord:
        """Return what shim.json says. Read when needed, not kept: most tasks are never signalled, memory is dear."""
        if self._facts is None:
            loaded = insist(self._directory_fd, lambda: load_record(self._directory_fd, SHIM))
            self._facts = ShimRecord.from_json(loaded) or ShimRecord(os.getpid(), DEFAULT_GRACE_S, task_pid=self.leader)
        return self._facts

    def _timeout_ms(self) -> float | None:
        times = [
            at for at in (self.course.deadline, self._retry_at, self._feed_at, self._hint.retry_at) if at is not None
        ]
        # Rounded up: a poll that returns just before the deadline would be followed by another one.
        return max(0.0, (min(times) - time.monotonic()) * 1000 + 1) if times else None

    def _on_time(self, now: float) -> None:
        for action in self.course.tick(now, blocked=self.writer.is_blocked):
            self._act(action)
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._store(self.writer.flush)
            if self._unsaved:
                self._tell()
        if self._feed_at is not None and now >= self._feed_at:
            self._feed_at = None
            self._feed()
        if self._hint.retry_at is not None and now >= self._hint.retry_at:
            self._hint.send(now)

    # Output

    def _read_all(self, ready: list[int]) -> None:
        """Read the streams that have something, in the order in which it came as far as that can be known.

        What is in a pipe when it is looked at is older than what comes to the other one afterwards. So no more is read
        than that, unless there is only one. Of bytes that are in both pipes nobody knows which came first.
        """
        if len(self._streams) == 1:
            for fd in ready:
                self._read(fd, self._read_size[fd])
        elif ready:
            amounts = {fd: _available(fd) for fd in ready}
            for fd in self._streams:
                if fd not in amounts and (amount := _available(fd)):
                    amounts[fd] = amount
            for fd, amount in amounts.items():
                # Nothing in it, and yet ready: that is its end.
                self._read(fd, min(amount or 1, self._read_size[fd]))

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

    def _store(self, write: Callable[[], None]) -> None:
        """Write to the spool. While it takes nothing, nothing is read either: the task's pipes fill and it waits."""
        was_blocked, rotations = self.writer.is_blocked, self.writer.rotations
        try:
            write()
        except OSError as error:
            if is_removed(self._directory_fd):
                raise  # Somebody removed the task's directory. The task goes with its shim: nobody could find it.
            # ENOSPC, EDQUOT, EFBIG and EIO alike: no byte may be dropped, so try again until it is possible.
            self._retry_at = time.monotonic() + _DISK_RETRY_S
            if not was_blocked:
                try_lock(self._lock_fd, NO_SPACE_BYTE if error.errno in _NO_SPACE else DISK_ERROR_BYTE)
        if self.writer.rotations != rotations and time.monotonic() >= self._notice_at:
            # All tasks together may store only so much; a flood is told of now and then.
            self._notice_at = time.monotonic() + _NOTICE_S
            self._hint.send(time.monotonic())
        if self.writer.is_blocked == was_blocked:
            return
        if was_blocked:
            unlock(self._lock_fd, NO_SPACE_BYTE)
            unlock(self._lock_fd, DISK_ERROR_BYTE)
            if self._tree_gone:
                # Nobody was listened to meanwhile.
                self.course.tree_gone(time.monotonic())
        self._hint.send(time.monotonic())
        for fd in self._streams:
            # Not modify(fd, 0): poll(2) reports the end of a pipe nevertheless, again and again.
            if self.writer.is_blocked:
                self._poller.unregister(fd)
            else:
                self._poller.register(fd, select.POLLIN)

    def _enlarge(self, fd: int) -> None:
        self._read_size[fd] = _LARGE_PIPE_SIZE
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _LARGE_PIPE_SIZE)
        except (OSError, AttributeError):
            pass  # The user's limit is reached (EPERM), or the system has no such call.

    # Input

    def _feed(self) -> None:
        """Pass on what input there is; wait for the task where it has not read the last of it yet."""
        if self._feeder is None:
            return
        fd, was_full = self._feeder.fd, self._feeds
        try:
            self._feeds = self._feeder.feed()
        except OSError:
            # A disk that cannot be read now; nothing was taken from it yet.
            self._feeds = False
            self._feed_at = time.monotonic() + _DISK_RETRY_S
        if self._feeds and not was_full:
            self._poller.register(fd, select.POLLOUT)
        elif was_full and not self._feeds:
            self._poller.unregister(fd)

    def _close(self, fd: int) -> None:
        if not self.writer.is_blocked:
            self._poller.unregister(fd)
        os.close(fd)
        del self._streams[fd]

    # The way to the end

    def _obey(self) -> None:
        for command in self._control.commands():
            if command["do"] == STDIN:
                self._feed()
                continue
            grace_s: float = command["grace_s"] if "grace_s" in command else self.facts().grace_s
            if actions := self.course.signal(time.monotonic(), grace_s):
                facts = self.facts()
                facts.signalled_ns = facts.signalled_ns or time.time_ns()
                facts.grace_s = grace_s
                # Told first: the answer to whoever asked waits for it.
                self._tell()
            for action in actions:
                self._act(action)

    def _check_children(self) -> None:
        if self._tree_gone:
            return
        if self.exit_info is None:
            self.exit_info = reap_all_but(self.leader)
            if self.exit_info is None:
                return
            self.ended_ns = time.time_ns()
            if has_living_children():
                for action in self.course.leader_exited(time.monotonic(), self.facts().grace_s):
                    self._act(action)
        if not has_living_children():
            self._tree_gone = True
            self.course.tree_gone(time.monotonic())

    def _act(self, action: Action) -> None:
        if action is Action.TERM_GROUP:
            signal_group(self.leader, _GENTLE)
        elif action is Action.TERM_TREE:
            signal_tree(self.leader, _GENTLE)
        elif action is Action.KILL_TREE:
            kill_tree(self.leader)
        else:
            self._seal()

    def _seal(self) -> None:
        for fd in list(self._streams):
            left = _available(fd)
            while left > 0 and not self.writer.is_blocked:
                self._read(fd, min(left, self._read_size[fd]))
                left -= self._read_size[fd]
            self._read(fd, 1)  # Its end, if nobody has it open.
        if self.writer.is_blocked:
            # Nothing may be left in a pipe: once more, when the disk has taken what was read.
            self.course.tree_gone(time.monotonic())
            return
        for fd in list(self._streams):
            self.course.cut()
            self._close(fd)

    def _tell(self) -> None:
        """Store the facts and have the engine look at them. A full disk must not hinder the task: try again later."""
        try:
            write_record(self._directory_fd, SHIM, self.facts().to_json(), durable=False)
            self._unsaved = False
        except OSError:
            self._unsaved = True
            self._retry_at = time.monotonic() + _DISK_RETRY_S
            return
        self._hint.send(time.monotonic())


def _available(fd: int) -> int:
    """Return how many bytes are in a pipe (FIONREAD, ioctl_pipe(2))."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
