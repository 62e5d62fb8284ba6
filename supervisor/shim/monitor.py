"""Watch one running task to its end. Runs in: shim. Owns: its task's pipes, spool, wait and kill timer."""

import fcntl
import os
import select
import signal
import time
from collections.abc import Callable

from supervisor.shim.control import ControlReader
from supervisor.shim.course import Action, Course
from supervisor.shim.hint import Hint
from supervisor.shim.tree import has_living_children, kill_tree, reap_all_but, signal_group, signal_tree
from supervisor.spool.files import insist, is_removed, load_record, write_record
from supervisor.spool.layout import SHIM
from supervisor.spool.records import DEFAULT_GRACE_S, JsonObject
from supervisor.spool.writer import SpoolWriter

__all__ = ["Monitor"]

# A pipe holds 64 KiB (pipe(7)). One that is found full is made larger, once: fewer, larger reads; measured 1.2 to 2
# times the throughput. Not from the start: the memory of all pipes of a user is limited (fs.pipe-user-pages-soft).
_PIPE_SIZE = 64 * 1024
_LARGE_PIPE_SIZE = 256 * 1024
_DISK_RETRY_S = 0.25

_GENTLE = (signal.SIGTERM, signal.SIGCONT)  # A stopped process acts on SIGTERM only once it goes on.


class Monitor:
    """The loop around one task, until its tree is gone and its output is stored."""

    def __init__(
        self,
        directory_fd: int,
        leader: int,
        fds: tuple[int, int, int, int],
        poller: select.poll,
        hint: Hint,
        drain_s: float,
    ) -> None:
        """Take over a task that runs. `fds`, all known to `poller`: control FIFO, what wakes, stdout and stderr."""
        control, self._wakeup_fd, stdout, stderr = fds
        self.course = Course(drain_s)
        self.writer = SpoolWriter(directory_fd)
        self.leader = leader
        self.exit_info: os.waitid_result | None = None
        self.ended_ns = 0
        self._directory_fd = directory_fd
        self._streams = {stdout: 1, stderr: 2}  # read end -> stream number
        self._read_size = dict.fromkeys(self._streams, _PIPE_SIZE)
        self._control = ControlReader(control)
        self._hint = hint
        self._facts: JsonObject | None = None
        self._unsaved = False
        self._retry_at: float | None = None
        self._tree_gone = False
        self._poller = poller
        for fd in fds:
            os.set_blocking(fd, False)

    def __repr__(self) -> str:
        return f"<Monitor of {self.leader} {self.course} {self.writer}>"

    def run(self) -> None:
        """Return when the task is over and its output is complete (or sealed: `course.sealed`)."""
        self._check_children()
        while self._streams or not self._tree_gone or self.writer.is_blocked:
            for fd, _events in self._poller.poll(self._timeout_ms()):
                if fd in self._streams:
                    self._read(fd)
                elif fd == self._wakeup_fd:
                    _drain(fd)
                else:
                    self._obey()
            self._check_children()
            self._on_time(time.monotonic())

    def facts(self) -> JsonObject:
        """Return what shim.json says. Read when needed, not kept: most tasks are never signalled, memory is dear."""
        if self._facts is None:
            loaded = insist(self._directory_fd, lambda: load_record(self._directory_fd, SHIM))
            self._facts = loaded or {"grace_s": DEFAULT_GRACE_S}
        return self._facts

    def _timeout_ms(self) -> float | None:
        times = [at for at in (self.course.deadline, self._retry_at, self._hint.retry_at) if at is not None]
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
        if self._hint.retry_at is not None and now >= self._hint.retry_at:
            self._hint.send(now)

    # Output

    def _read(self, fd: int) -> None:
        if self.writer.is_blocked:
            return
        try:
            data = os.read(fd, self._read_size[fd])
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
        was_blocked = self.writer.is_blocked
        try:
            write()
        except OSError:
            if is_removed(self._directory_fd):
                raise  # Somebody removed the task's directory. The task goes with its shim: nobody could find it.
            # ENOSPC, EDQUOT, EFBIG and EIO alike: no byte may be dropped, so try again until it is possible.
            self._retry_at = time.monotonic() + _DISK_RETRY_S
        if self.writer.is_blocked == was_blocked:
            return
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

    def _close(self, fd: int) -> None:
        if not self.writer.is_blocked:
            self._poller.unregister(fd)
        os.close(fd)
        del self._streams[fd]

    # The way to the end

    def _obey(self) -> None:
        for command in self._control.commands():
            grace_s = command.get("grace_s")
            if not isinstance(grace_s, int | float):
                grace_s = self.facts()["grace_s"]
            if actions := self.course.signal(time.monotonic(), grace_s):
                self.facts().setdefault("signalled_ns", time.time_ns())
                self.facts()["grace_s"] = grace_s
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
                for action in self.course.leader_exited(time.monotonic(), self.facts()["grace_s"]):
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
            for fd in list(self._streams):
                self._read(fd)
                if fd in self._streams:
                    self._close(fd)

    def _tell(self) -> None:
        """Store the facts and have the engine look at them. A full disk must not hinder the task: try again later."""
        try:
            write_record(self._directory_fd, SHIM, self.facts(), durable=False)
            self._unsaved = False
        except OSError:
            self._unsaved = True
            self._retry_at = time.monotonic() + _DISK_RETRY_S
            return
        self._hint.send(time.monotonic())


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
