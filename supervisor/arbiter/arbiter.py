"""Keep engine and front-end alive and joined. Runs in: arbiter. Owns: the children, the signals."""

import heapq
import selectors
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from supervisor.arbiter.access import login_advice
from supervisor.arbiter.backoff import UNREADY_LIMIT
from supervisor.arbiter.children import Child, new_pipe
from supervisor.arbiter.listener import Listener
from supervisor.arbiter.startup_error import CONFIGURATION, SOFTWARE, StartupError
from supervisor.engine.main import run_engine
from supervisor.frontend.main import run_frontend
from supervisor.hostos.descriptors import drain, signal_pipe
from supervisor.ipc.control_channel import Handlers, Message
from supervisor.log import log
from supervisor.settings import Settings

__all__ = ["Arbiter"]

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Orderly within 5 s, also with a child that is stuck.
_STOP_S = 4.0
_FORK_RETRY_S = 1.0
# A child that is stopped, or hangs, keeps its clients waiting, so it is replaced. Unanswered pings are counted, not
# seconds: on a machine that wakes up from a suspend, no child must be killed for the time that it was asleep.
_PING_S = 10.0
_UNANSWERED_LIMIT = 3


class Arbiter:
    """The arbiter's loop: start the children, replace each that dies or hangs, end them when told to stop."""

    def __init__(self, settings: Settings, listener: Listener, now: Callable[[], float] = time.monotonic) -> None:
        assert listener.access is settings.access  # The front-end is told what the listener was checked for.
        self._now = now
        self._settings = settings
        self._listener = listener
        self.engine = Child("engine", self._be_engine)
        self.frontend = Child("front-end", self._be_frontend)
        self._children = (self.engine, self.frontend)
        # What each child can say. The front-end talks to unauthenticated peers, so it has no say in anything else.
        self._handlers: dict[str, Handlers] = {
            self.engine.role: {
                "fatal": self._on_fatal,
                "ready": lambda _message: self._on_ready(self.engine),
                "pong": lambda _message: self._on_pong(self.engine),
                "replace_frontend": lambda _message: self.frontend.kill(),
                "stopped": self._on_stopped,
            },
            self.frontend.role: {
                "ready": lambda _message: self._on_ready(self.frontend),
                "pong": lambda _message: self._on_pong(self.frontend),
            },
        }
        self._selector = selectors.DefaultSelector()
        self._restarts: list[tuple[float, str]] = []
        self._announced = False
        self._stop_asked = False
        self._ping_at = self._now() + _PING_S
        self._kill_at: float | None = None
        self._left_behind: int | None = None
        self._wakeup_fd = _wake_on_signals(self._ask_to_stop)

    def __repr__(self) -> str:
        return f"<Arbiter {self.engine} {self.frontend}>"

    def run(self) -> int | None:
        """Run until told to stop; return how many tasks are left running (None: the engine could not say).

        StartupError if a child cannot be kept alive.
        """
        self._selector.register(self._wakeup_fd, selectors.EVENT_READ)
        ours, theirs = new_pipe()
        self._start(self.engine, ours)
        self._start(self.frontend, theirs)
        try:
            while not self._stop_asked:
                self._turn()
            self._stop()
        finally:
            for child in self._children:
                child.kill()
                child.reap()
            _ignore_signals()
        return self._left_behind

    def _be_engine(self, control: Connection, pipe: Connection) -> None:
        run_engine(control, pipe, self._settings)

    def _be_frontend(self, control: Connection, pipe: Connection) -> None:
        run_frontend(control, pipe, self._listener.socket, self._settings.access)

    def _ask_to_stop(self, _number: int, _frame: object) -> None:
        self._stop_asked = True

    def _start(self, child: Child, pipe: Connection) -> None:
        child.start(pipe)
        assert child.control is not None
        self._selector.register(child.control, selectors.EVENT_READ, child)

    def _turn(self, until: float | None = None) -> None:
        """Wait for a message, a death, a signal or the next restart, and act on it."""
        times = [self._ping_at, *(when for when, _role in self._restarts[:1]), *([] if until is None else [until])]
        timeout_s = max(0.0, min(times) - self._now())
        for key, _events in self._selector.select(timeout_s):
            if key.data is None:
                drain(self._wakeup_fd)
            else:
                self._listen_to(key.data)
        for child in self._children:
            if child.has_ended:
                self._listen_to(child)  # To its last messages.
                self._reap(child)
        Child.reap_strays({child.process.pid for child in self._children if child.process is not None})
        while self._restarts and self._restarts[0][0] <= self._now():
            self._restart(heapq.heappop(self._restarts)[1])
        if self._ping_at <= self._now():
            self._ping()

    def _ping(self) -> None:
        self._ping_at = self._now() + _PING_S
        for child in self._children:
            if child.is_ready and child.unanswered >= _UNANSWERED_LIMIT:
                log(f"levityd: the {child.role} does not answer: replaced")
                child.kill()
            elif child.is_ready:
                child.ping()

    def _listen_to(self, child: Child) -> None:
        if not child.is_alive:
            return
        try:
            child.receive(self._handlers[child.role])
        except EOFError:
            # A child that lives, but has closed its end or sends what is no row of frames, is of no use either.
            self._reap(child)

    def _on_fatal(self, message: Message) -> None:
        if not self.engine.is_ready:
            raise StartupError(str(message.values.get("reason", "the engine does not start")), CONFIGURATION)

    def _on_ready(self, child: Child) -> None:
        child.is_ready = True
        self._announce()

    def _on_pong(self, child: Child) -> None:
        child.unanswered = 0

    def _on_stopped(self, message: Message) -> None:
        live = message.values.get("live")
        self._left_behind = live if isinstance(live, int) else None

    def _reap(self, child: Child) -> None:
        if child.control is None:
            return
        self._selector.unregister(child.control)
        child.kill()
        child.reap()
        if self._kill_at is not None:
            return
        delay_s = child.backoff.died(self._now(), was_ready=child.is_ready)
        child.is_ready = False
        if delay_s is None:
            raise StartupError(
                f"the {child.role} ended {UNREADY_LIMIT} times before it was ready; see the lines above. "
                "Running tasks go on; start levityd again once the cause is gone",
                SOFTWARE,
            )
        heapq.heappush(self._restarts, (self._now() + delay_s, child.role))

    def _restart(self, role: str) -> None:
        child, other = self._children if role == self.engine.role else self._children[::-1]
        for_other = None
        try:
            for_child, for_other = new_pipe()
            self._start(child, for_child)
        except OSError as error:
            # Out of processes, memory or descriptors. It may pass: a task may be the cause.
            if for_other is not None:
                for_other.close()
            log(f"levityd: the {role} cannot be started now: {error.strerror}")
            heapq.heappush(self._restarts, (self._now() + _FORK_RETRY_S, role))
            return
        if other.is_alive:
            other.hand_over(for_other)
        else:
            for_other.close()  # The other child is about to be restarted, too: that makes a pipe for both.

    def _announce(self) -> None:
        if not self._announced and all(child.is_ready for child in self._children):
            self._announced = True
            log(f"Listening on {self._listener.address}")
            if advice := login_advice(self._settings.access, self._listener.address, self._settings.state_dir):
                log(advice)

    def _stop(self) -> None:
        """End the front-end first, so that the engine answers what the front-end still passes on; then the engine."""
        self._restarts.clear()
        self._kill_at = self._now() + _STOP_S
        for child in (self.frontend, self.engine):
            child.tell_to_stop()
            while child.is_alive and self._now() < self._kill_at:
                self._turn(self._kill_at)


def _wake_on_signals(ask_to_stop: Callable[[int, object], None]) -> int:
    """Return a descriptor that becomes readable when a child ends or the operator asks levityd to stop."""
    read_end, _write_end = signal_pipe()
    for number in _STOPPING:
        # nohup(1) has SIGHUP ignored: that stays.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, ask_to_stop)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return read_end


def _ignore_signals() -> None:
    """Ignore further signals to stop: at its end Python undoes its handlers, and such a signal would kill levityd."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
