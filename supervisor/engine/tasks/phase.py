"""The phases of a task, the public state that each shows, and how one follows another. Runs in: engine. Owns: nothing.

Never: does I/O. Clients' scripts see the six states of levity/states.py; a phase tells more, and new ones may come.
What the engine knows of a task in each phase is in supervisor/engine/tasks/live_task.py.
"""

from enum import Enum

from levity.states import State
from supervisor.engine.storage.observation import Finding
from supervisor.spool.records import ShimRecord

__all__ = ["MOVES", "STEPS", "WATCHING", "Phase", "Step", "ended", "lost"]


class Phase(Enum):
    """Where a task is: the state that it shows, and the phase's own name, as `query --json` has them."""

    # An engine accepted it and has ended; this one has not seen its directory yet.
    ADOPTED = State.NOT_STARTED, "adopted"
    # It was never started, and no client has come back for it since its engine ended.
    UNCLAIMED = State.NOT_STARTED, "unclaimed"
    # The zygote is asked for a shim.
    SPAWNING = State.NOT_STARTED, "spawning"
    # A shim has it; its command is not executed yet.
    STARTING = State.NOT_STARTED, "starting"
    RUNNING = State.RUNNING, "running"
    # Its shim sent SIGTERM, or will next.
    STOPPING = State.SIGNALLED, "stopping"
    # Its shim is gone and recorded nothing: the engine ends what is left of it and records that. It shows the state
    # that it had.
    LOST_STARTING = State.NOT_STARTED, "lost"
    LOST_RUNNING = State.RUNNING, "lost"
    LOST_STOPPING = State.SIGNALLED, "lost"
    FINISHED = State.FINISHED, "ended"
    BRUTALLY_KILLED = State.BRUTALLY_KILLED, "ended"
    FAILED = State.INTERNAL_SERVER_ERROR, "ended"

    def __init__(self, state: State, shown: str) -> None:
        self.state = state
        self.shown = shown

    def __repr__(self) -> str:
        return f"<Phase {self.name}>"


_ENDS = frozenset({Phase.FINISHED, Phase.BRUTALLY_KILLED, Phase.FAILED})
_LOST = frozenset({Phase.LOST_STARTING, Phase.LOST_RUNNING, Phase.LOST_STOPPING})

# Every legal move. A phase that is entered anew, with newer data, moves to itself.
MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.ADOPTED: frozenset({Phase.UNCLAIMED, Phase.SPAWNING, Phase.STARTING, Phase.RUNNING, Phase.STOPPING})
    | _LOST
    | _ENDS,
    # Claimed, it is looked at as one that was just adopted.
    Phase.UNCLAIMED: frozenset({Phase.ADOPTED, Phase.STARTING, Phase.RUNNING, Phase.STOPPING}) | _LOST | _ENDS,
    Phase.SPAWNING: frozenset({Phase.SPAWNING, Phase.STARTING, Phase.RUNNING, Phase.STOPPING}) | _LOST | _ENDS,
    # Its shim may be killed before it executes the command: then another one is asked for, by a client that waits.
    Phase.STARTING: frozenset({Phase.UNCLAIMED, Phase.SPAWNING, Phase.RUNNING, Phase.STOPPING}) | _LOST | _ENDS,
    Phase.RUNNING: frozenset({Phase.RUNNING, Phase.STOPPING, Phase.LOST_RUNNING, Phase.LOST_STOPPING}) | _ENDS,
    Phase.STOPPING: frozenset({Phase.STOPPING, Phase.LOST_STOPPING}) | _ENDS,
    Phase.LOST_STARTING: frozenset({Phase.FAILED}),
    Phase.LOST_RUNNING: frozenset({Phase.FAILED}),
    Phase.LOST_STOPPING: frozenset({Phase.FAILED}),
    Phase.FINISHED: frozenset(),
    Phase.BRUTALLY_KILLED: frozenset(),
    Phase.FAILED: frozenset(),
}


class Step(Enum):
    """What the engine does on what it finds in a task's directory."""

    NOTHING = "it is decided already"
    WATCH = "be told when the shim is gone"
    TAKE = "WATCH, and note that a shim has it"
    RUN = "WATCH, and take over what the shim wrote; tell clients that wait for that"
    SPAWN = "ask for a shim, or wait for a client that wants it started"
    LOSE = "end what is left of it, and record that"
    END = "take over how it ended; tell clients that wait for that"


WATCHING = frozenset({Step.WATCH, Step.TAKE, Step.RUN})


def _row(over: Step, running: Step, starting: Step, never_started: Step, lost: Step) -> dict[Finding, Step]:
    return {
        Finding.OVER: over,
        Finding.RUNNING: running,
        Finding.STARTING: starting,
        Finding.NEVER_STARTED: never_started,
        Finding.LOST: lost,
    }


# A record that was read once may be unreadable later. A task that ran is not started again for that.
_NOT_EXECUTED = _row(Step.END, Step.RUN, Step.TAKE, Step.SPAWN, Step.LOSE)
_EXECUTED = _row(Step.END, Step.RUN, Step.WATCH, Step.LOSE, Step.LOSE)
_DECIDED = _row(Step.NOTHING, Step.NOTHING, Step.NOTHING, Step.NOTHING, Step.NOTHING)

STEPS: dict[Phase, dict[Finding, Step]] = {
    Phase.ADOPTED: _NOT_EXECUTED,
    Phase.UNCLAIMED: _NOT_EXECUTED,
    Phase.SPAWNING: _NOT_EXECUTED,
    Phase.STARTING: _NOT_EXECUTED,
    Phase.RUNNING: _EXECUTED,
    Phase.STOPPING: _EXECUTED,
    Phase.LOST_STARTING: _DECIDED,
    Phase.LOST_RUNNING: _DECIDED,
    Phase.LOST_STOPPING: _DECIDED,
    Phase.FINISHED: _DECIDED,
    Phase.BRUTALLY_KILLED: _DECIDED,
    Phase.FAILED: _DECIDED,
}


def lost(phase: Phase, shim: ShimRecord | None) -> Phase:
    """Return what follows `phase` when the shim is gone: the state must not go back behind what the shim recorded."""
    if phase is Phase.STOPPING or (shim is not None and shim.signalled_ns is not None):
        return Phase.LOST_STOPPING
    if phase is Phase.RUNNING or (shim is not None and shim.task_pid is not None):
        return Phase.LOST_RUNNING
    return Phase.LOST_STARTING


def ended(state: State) -> Phase:
    """Return the phase of a task that is over, in this state."""
    return next(phase for phase in _ENDS if phase.state is state)
