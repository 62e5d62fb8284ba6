"""One child of the arbiter: forked, talked to, reaped. Runs in: arbiter. Owns: its process and control connection."""

import multiprocessing
import os
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection

from supervisor.arbiter.backoff import Backoff
from supervisor.ipc.control_channel import ControlChannel, Handlers

__all__ = ["Child", "new_pipe"]

# Forking is safe here, and only here: the arbiter has one thread.
_context = multiprocessing.get_context("fork")


def new_pipe() -> tuple[Connection, Connection]:
    """Return the two ends of a pipe, bytes both ways."""
    return _context.Pipe(duplex=True)


class Child:
    """The engine or the front-end. `run(control, pipe)` is what the forked process does; it does not return."""

    def __init__(self, role: str, run: Callable[[Connection, Connection], None]) -> None:
        self.role = role
        self.is_ready = False
        self.unanswered = 0
        self.process: multiprocessing.process.BaseProcess | None = None
        self.control: ControlChannel | None = None
        self.backoff = Backoff()
        self._run = run

    def __repr__(self) -> str:
        return f"<Child {self.role} {self.process and self.process.pid}{' ready' * self.is_ready}>"

    @property
    def is_alive(self) -> bool:
        """Whether it has been started and not yet reaped."""
        return self.process is not None

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended and is not yet reaped. Another process may still hold its end of `control`."""
        return self.process is not None and self.process.exitcode is not None

    def start(self, pipe: Connection) -> None:
        """Fork it, with its end of the pipe to the other child; OSError if the host does not let us."""
        self.is_ready = False
        self.unanswered = 0
        ours, theirs = _context.Pipe(duplex=True)
        process = _context.Process(target=self._run, args=(theirs, pipe), name=self.role)
        with theirs, pipe, ExitStack() as undo:
            undo.callback(ours.close)
            process.start()
            undo.pop_all()
        self.process, self.control = process, ControlChannel(ours)

    def hand_over(self, pipe: Connection) -> None:
        """Give it its end of a new pipe, the other child having been started anew."""
        if self.control is not None:
            self._send("peer", os.dup(pipe.fileno()))
        pipe.close()

    def ping(self) -> None:
        """Ask whether it still listens; `unanswered` counts until it says so."""
        self.unanswered += 1
        self._send("ping")

    def tell_to_stop(self) -> None:
        """Ask it to end."""
        self._send("stop")

    def _send(self, verb: str, fd: int = -1) -> None:
        if self.control is None:
            return
        self.control.send(verb, fd)
        if self.control.is_stuck:
            self.kill()  # It answers, perhaps, but does not listen.

    def kill(self) -> None:
        """End it without asking."""
        if self.process is not None:
            self.process.kill()

    def receive(self, handlers: Handlers) -> None:
        """Act on the messages that have come, without waiting; EOFError when it ended, or is of no use any more."""
        assert self.control is not None
        self.control.dispatch(self.control.receive(), handlers)

    def reap(self) -> None:
        """Wait for a process that has ended or was killed, and forget it."""
        if self.process is not None and self.control is not None:
            self.process.join()
            self.process.close()
            self.control.close()
            self.process = self.control = None

    @staticmethod
    def reap_strays(own: set[int | None]) -> None:
        """Reap all children but `own`: the arbiter as process 1 of a container inherits every orphan."""
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is None or info.si_pid in own:
                return
            os.waitpid(info.si_pid, 0)
