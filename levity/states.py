"""The six states of a task and every legal move between them. Runs in: every process. Owns: nothing."""

from enum import StrEnum

__all__ = ["ENDS", "MOVES", "State", "may_move"]


class State(StrEnum):
    """A task's state, spelled as on the wire and as `levity query` prints it."""

    NOT_STARTED = "NotStarted"
    RUNNING = "Running"
    SIGNALLED = "Signalled"
    FINISHED = "Finished"
    BRUTALLY_KILLED = "BrutallyKilled"
    INTERNAL_SERVER_ERROR = "InternalServerError"

    @property
    def is_end(self) -> bool:
        """Whether the task is over: this state never changes."""
        return self in ENDS


ENDS = frozenset({State.FINISHED, State.BRUTALLY_KILLED, State.INTERNAL_SERVER_ERROR})

# NotStarted may jump straight to an end: a task can be over before the engine looks at it the first time.
MOVES: dict[State, frozenset[State]] = {
    State.NOT_STARTED: frozenset({State.RUNNING, State.SIGNALLED}) | ENDS,
    State.RUNNING: frozenset({State.SIGNALLED}) | ENDS,
    State.SIGNALLED: ENDS,
    State.FINISHED: frozenset(),
    State.BRUTALLY_KILLED: frozenset(),
    State.INTERNAL_SERVER_ERROR: frozenset(),
}


def may_move(old: State, new: State) -> bool:
    """Whether a task in state `old` may become `new`; staying in a state is no move."""
    return new in MOVES[old]
