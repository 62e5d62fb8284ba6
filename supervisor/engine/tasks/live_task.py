"""A live task as the engine knows it. Runs in: engine. Owns: the pidfd of its shim."""

from collections.abc import Callable

from levity.errors import LevityError
from levity.states import State, may_move
from supervisor.engine.loop import Timer
from supervisor.engine.tasks.record import make_record
from supervisor.spool.records import ExitRecord, JsonObject, ShimRecord, Spec

__all__ = ["Answer", "LiveTask"]

# Called once with the record, or with the error.
Answer = Callable[[JsonObject | LevityError], None]


class LiveTask:
    """A task that is not over.

    `started` and `signalled` are those who wait to be told that it is, `ended` are the waits for its end;
    `pending_signals` came before it was started. `blocked` is the byte of its lock that says why its output cannot be
    stored, 0 while it can.
    `tries` counts how often the zygote was asked for a shim, `outstanding` how many of those it has not seen leave.
    """

    def __init__(self, spec: Spec) -> None:
        self.id = spec.id
        self.spec = spec
        self.state = State.NOT_STARTED
        self.facts: ShimRecord | ExitRecord | None = None
        self.blocked = 0
        self.pidfd = -1
        self.was_watched = False
        self.tries = 0
        self.outstanding = 0
        self.started: list[Answer] = []
        self.signalled: list[Answer] = []
        self.ended: dict[Answer, None] = {}  # A set that keeps its order: who gives up leaves at once.
        self.pending_signals: list[float | None] = []
        self.unclaimed: Timer | None = None

    def __repr__(self) -> str:
        return f"<LiveTask {self.id} {self.state}{' watched' if self.pidfd >= 0 else ''}>"

    def move(self, state: State, facts: ShimRecord | ExitRecord | None) -> None:
        """Take over what a record on disk says; the state follows the table of moves, and only here."""
        self.facts = facts
        if state is not self.state:
            assert may_move(self.state, state), f"{self.id}: {self.state} -> {state}"
            self.state = state

    @property
    def commands(self) -> int:
        """Which version of commands its shim understands; 0, which each does, as long as it has not said so."""
        return self.facts.commands if isinstance(self.facts, ShimRecord) else 0

    def record(self) -> JsonObject:
        """Return what clients get."""
        return make_record(self.spec, self.state, self.facts, self.blocked)

    def answer_end(self, result: JsonObject | LevityError) -> None:
        """Tell those who wait for the end."""
        told, self.ended = list(self.ended), {}
        for answer in told:
            answer(result)

    def answer(self, waiting: list[Answer], result: JsonObject | LevityError) -> None:
        """Tell all of `waiting`, once."""
        told, waiting[:] = list(waiting), []
        for answer in told:
            answer(result)
