"""Watch one running task to its end. Runs in: shim. Owns: its task's exit and the control FIFO."""

import os
import select
import signal
import time
from collections.abc import Callable

from supervisor.hostos.descriptors import drain
from supervisor.shim.control import ControlReader
from supervisor.shim.hint import Hint
from supervisor.shim.output_pump import OutputPump
from supervisor.shim.reaper import has_living_children, reap_all_but
from supervisor.shim.shim_record import load_shim_record, write_signalled
from supervisor.shim.stdin_pump import StdinPump
from supervisor.shim.termination import Action, Event, Termination
from supervisor.shim.tree import kill_tree, signal_group, signal_tree
from supervisor.spool.commands import STDIN
from supervisor.spool.records import ShimRecord

__all__ = ["Monitor"]

_DISK_RETRY_S = 0.25

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
        termination: Termination,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over a task that runs. `taken`: its directory and lock.

        `fds`, all known to `poller`: control FIFO, wake-up pipe, stdout, stderr. `stdin`: -1 for a task without input.
        """
        self._directory_fd = taken[0]
        control, self._wakeup_fd, stdout, stderr = fds
        self.leader = leader
        self.exit_info: os.waitid_result | None = None
        self.ended_ns = 0
        self.termination = termination
        self.output = OutputPump(
            taken,
            (stdout, stderr),
            lambda: self.facts().log_cap,
            poller,
            hint,
            termination,
            clock=clock,
        )
        self._stdin = None if stdin < 0 else StdinPump(self._directory_fd, stdin, poller, clock)
        self._control = ControlReader(control)
        self._poller = poller
        self._hint = hint
        self._clock = clock
        self._facts: ShimRecord | None = None
        self._tell_at: float | None = None
        self._tree_gone = False
        for fd in (control, self._wakeup_fd):
            os.set_blocking(fd, False)

    def __repr__(self) -> str:
        return f"<Monitor of {self.leader} {self.termination} {self.output}>"

    def run(self) -> None:
        """Return when the task is over and its output is complete (or cut: `termination.was_cut`)."""
        self._check_children()
        if self._stdin is not None:
            self._stdin.pump()  # Input that was sent before the shim listened.
        while not (self._tree_gone and self.output.is_done):
            ready = [fd for fd, _events in self._poller.poll(self._timeout_ms())]
            self.output.read(ready)
            for fd in ready:
                if fd == self._wakeup_fd:
                    drain(fd)
                elif fd == self._control.fd:
                    self._obey()
                elif self._stdin is not None and fd == self._stdin.fd:
                    self._stdin.pump()
            self._check_children()
            self._on_time(self._clock())

    @property
    def takes_input(self) -> bool:
        """Whether a client may send input to the task."""
        return self._stdin is not None

    def facts(self) -> ShimRecord:
        """Return what shim.json says. Read when needed, not kept: most tasks are never signalled, memory is dear."""
        if self._facts is None:
            self._facts = load_shim_record(self._directory_fd, self.leader)
        return self._facts

    def _timeout_ms(self) -> float | None:
        stdin_at = None if self._stdin is None else self._stdin.retry_at
        timers = (self.termination.deadline, self.output.retry_at, stdin_at, self._tell_at, self._hint.retry_at)
        times = [at for at in timers if at is not None]
        # Rounded up: a poll that returns just before the deadline would be followed by another one.
        return max(0.0, (min(times) - self._clock()) * 1000 + 1) if times else None

    def _on_time(self, now: float) -> None:
        self._act(self.termination.tick(now, is_blocked=self.output.writer.is_blocked))
        if _is_due(self.output.retry_at, now):
            self.output.retry()
        if _is_due(self._tell_at, now):
            self._tell()
        if self._stdin is not None and _is_due(self._stdin.retry_at, now):
            self._stdin.pump()
        if _is_due(self._hint.retry_at, now):
            self._hint.send(now)

    def _obey(self) -> None:
        for command in self._control.commands():
            if command["do"] == STDIN:
                if self._stdin is not None:
                    self._stdin.pump()
                continue
            grace_s: float = command["grace_s"] if "grace_s" in command else self.facts().grace_s
            action = self.termination.on(Event.ASKED, self._clock(), grace_s)
            if action is not Action.NOTHING:
                facts = self.facts()
                facts.signalled_ns = facts.signalled_ns or time.time_ns()
                facts.grace_s = grace_s
                # Persist first: the client's reply waits for this record.
                self._tell()
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
                self._act(self.termination.on(Event.LEADER_GONE, self._clock(), self.facts().grace_s))
        if not has_living_children():
            self._tree_gone = True
            self._act(self.termination.on(Event.TREE_GONE, self._clock()))

    def _act(self, action: Action) -> None:
        if action is Action.TERM_GROUP:
            signal_group(self.leader, _GENTLE)
        elif action is Action.TERM_TREE:
            signal_tree(self.leader, _GENTLE)
        elif action is Action.KILL_TREE:
            kill_tree(self.leader)
        elif action is Action.SEAL:
            self.output.seal()

    def _tell(self) -> None:
        """Store the facts and have the engine look at them. A full disk must not hinder the task: try again later."""
        try:
            write_signalled(self._directory_fd, self.facts())
        except OSError:
            self._tell_at = self._clock() + _DISK_RETRY_S
            return
        self._tell_at = None
        self._hint.send(self._clock())


def _is_due(at: float | None, now: float) -> bool:
    return at is not None and now >= at
