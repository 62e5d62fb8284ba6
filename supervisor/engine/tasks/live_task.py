"""A task as the engine knows it: its phase, with the data of that phase and no other.

Runs in: engine. Owns: nothing.
"""

from collections.abc import Callable, Iterable
from typing import ClassVar

from levity.errors import LevityError
from levity.states import State, may_move
from supervisor.engine.loop import Timer
from supervisor.engine.tasks.phase import MOVES, Phase, ended
from supervisor.engine.tasks.record import make_record
from supervisor.spool.records import ExitRecord, JsonObject, ShimRecord, Spec

__all__ = [
    "Adopted",
    "Answer",
    "Data",
    "Ended",
    "LiveTask",
    "Lost",
    "Running",
    "Signal",
    "Spawning",
    "Starting",
    "Stopping",
    "Unclaimed",
    "Unstarted",
    "tell",
]

# Called once with the record, or with the error.
Answer = Callable[[JsonObject | LevityError], None]


def tell(waiting: Iterable[Answer], result: JsonObject | LevityError) -> None:
    """Give all of `waiting` the result."""
    for answer in waiting:
        answer(result)


class Signal:
    """A signal that waits for the task to run: the grace period that it names, if any, and its answer."""

    __slots__ = ("answer", "grace_s")

    def __init__(self, grace_s: float | None, answer: Answer) -> None:
        self.grace_s = grace_s
        self.answer = answer


class _Data:
    """What is known in a phase; `leave` is called when another phase follows."""

    __slots__ = ()

    def leave(self) -> None:
        """Let go of what only this phase needs."""


class Adopted(_Data):
    """`started` are the answers to clients that wait for its start; `signals` came before it."""

    __slots__ = ("signals", "started")
    phase: ClassVar = Phase.ADOPTED

    def __init__(self, started: list[Answer], signals: list[Signal]) -> None:
        self.started = started
        self.signals = signals


class Unclaimed(_Data):
    """`expiry` is when it is given up."""

    __slots__ = ("expiry", "signals")
    phase: ClassVar = Phase.UNCLAIMED

    def __init__(self, signals: list[Signal], expiry: Timer) -> None:
        self.signals = signals
        self.expiry = expiry

    def leave(self) -> None:
        self.expiry.cancel()


class Spawning(_Data):
    """`tries` is how often the zygote was asked for a shim, `outstanding` how many of those have not left yet."""

    __slots__ = ("outstanding", "signals", "started", "tries")
    phase: ClassVar = Phase.SPAWNING

    def __init__(self, started: list[Answer], signals: list[Signal], tries: int, outstanding: int) -> None:
        self.started = started
        self.signals = signals
        self.tries = tries
        self.outstanding = outstanding


class Starting(_Data):
    """As Spawning. A shim that an earlier engine asked for is not counted."""

    __slots__ = ("outstanding", "signals", "started", "tries")
    phase: ClassVar = Phase.STARTING

    def __init__(self, started: list[Answer], signals: list[Signal], tries: int, outstanding: int) -> None:
        self.started = started
        self.signals = signals
        self.tries = tries
        self.outstanding = outstanding


class Running(_Data):
    """`shim` is what shim.json says; `confirming` are the answers to signals that the shim has not confirmed yet.

    `blocked` is the byte of its lock that says why its output cannot be stored, 0 while it can.
    """

    __slots__ = ("blocked", "confirming", "shim")
    phase: ClassVar = Phase.RUNNING

    def __init__(self, shim: ShimRecord, blocked: int, confirming: list[Answer]) -> None:
        self.shim = shim
        self.blocked = blocked
        self.confirming = confirming


class Stopping(_Data):
    """As Running."""

    __slots__ = ("blocked", "confirming", "shim")
    phase: ClassVar = Phase.STOPPING

    def __init__(self, shim: ShimRecord, blocked: int, confirming: list[Answer]) -> None:
        self.shim = shim
        self.blocked = blocked
        self.confirming = confirming


class Lost(_Data):
    """`phase` is the one of three that shows what state it had. `ran` is what its shim wrote, None if none did."""

    __slots__ = ("confirming", "phase", "ran", "started")

    def __init__(self, phase: Phase, ran: ShimRecord | None, started: list[Answer], confirming: list[Answer]) -> None:
        self.phase = phase
        self.ran = ran
        self.started = started
        self.confirming = confirming


class Ended(_Data):
    """`outcome` is its exit record."""

    __slots__ = ("outcome", "phase")

    def __init__(self, outcome: ExitRecord) -> None:
        self.phase = ended(outcome.state)
        self.outcome = outcome


# Not executed yet, and a client may wait for that.
Unstarted = Adopted | Spawning | Starting
Data = Unstarted | Unclaimed | Running | Stopping | Lost | Ended


class LiveTask:
    """A task that is not over, or just is. `ended` are the waits for its end."""

    __slots__ = ("data", "ended", "id", "spec")

    def __init__(self, spec: Spec, data: Data) -> None:
        self.id = spec.id
        self.spec = spec
        self.data = data
        self.ended: dict[Answer, None] = {}  # A set that keeps its order: a client that gives up leaves at once.

    def __repr__(self) -> str:
        return f"<LiveTask {self.id} {self.phase.name}>"

    @property
    def phase(self) -> Phase:
        return self.data.phase

    @property
    def state(self) -> State:
        return self.phase.state

    @property
    def blocked(self) -> int:
        """The byte of its lock that says why its output cannot be stored, 0 while it can."""
        return self.data.blocked if isinstance(self.data, Running | Stopping) else 0

    def become(self, data: Data) -> None:
        """Enter a phase, by the table of moves. Nothing else changes a task's phase."""
        old, new = self.phase, data.phase
        assert new in MOVES[old], f"{self.id}: {old} -> {new}"
        assert old.state is new.state or may_move(old.state, new.state), f"{self.id}: {old.state} -> {new.state}"
        self.data.leave()
        self.data = data

    @property
    def commands(self) -> int:
        """Which version of commands its shim understands; 0, which each does, as long as it has not said so."""
        return self.data.shim.commands if isinstance(self.data, Running | Stopping) else 0

    def record(self) -> JsonObject:
        """Return what clients get."""
        match self.data:
            case Running(shim=ran) | Stopping(shim=ran) | Ended(outcome=ran) | Lost(ran=ran):
                return make_record(self.spec, self.phase, ran, self.blocked)
            case Adopted() | Unclaimed() | Spawning() | Starting():
                return make_record(self.spec, self.phase, None)

    def waiting(self) -> tuple[list[Answer], list[Answer]]:
        """Return the answers to all that wait for its start, and to all that wait for a signal to be confirmed."""
        match self.data:
            case Adopted() | Spawning() | Starting() as data:
                return data.started, [signal.answer for signal in data.signals]
            case Unclaimed() as data:
                return [], [signal.answer for signal in data.signals]
            case Running() | Stopping() as data:
                return [], data.confirming
            case Lost() as data:
                return data.started, data.confirming
            case Ended():
                return [], []

    def confirm(self) -> None:
        """Answer the signals that were sent."""
        if isinstance(self.data, Running | Stopping | Lost):
            told, self.data.confirming = self.data.confirming, []
            tell(told, self.record())

    def tell_end(self, result: JsonObject | LevityError) -> None:
        """Answer all that wait for its end."""
        told, self.ended = list(self.ended), {}
        tell(told, result)
