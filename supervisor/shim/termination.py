"""How a task is brought to its end: one total table of state x event. Runs in: shim. Never: reads a clock itself.

Pure: `on` and `tick` take the monotonic time and return what the shim shall do to its task now. `deadline` is when to
call `tick` next; supervisor/shim/monitor.py does. The grace period comes from the task's options
(levity/start_options.py) or its last signal (supervisor/shim/shim_record.py).
"""

from enum import Enum

__all__ = ["DRAIN_S", "TABLE", "Action", "Event", "State", "Termination", "Timer"]

# How long a process outside the task's tree may hold a pipe open and still be read (containerd: as long).
DRAIN_S = 10.0
# SIGKILL works at once. But a tree that forks while it is killed takes more than one round, and a process in an
# uninterruptible sleep may take for ever: the rounds grow rarer.
_FIRST_ROUND_S = 0.01
_LAST_ROUND_S = 1.0


class State(Enum):
    """How far the task is on the way to its end."""

    RUNNING = "the leader runs, and the engine has asked for nothing"
    STOPPING = "the leader has SIGTERM, and its grace runs"
    KILLING = "the leader has outlived its grace: SIGKILL, in rounds"
    LEADERLESS = "the leader is gone, what it left has SIGTERM, and its grace runs"
    SWEEPING = "the leader is gone, what it left gets SIGKILL, in rounds"
    DRAINING = "no process of the tree lives; an outsider may hold a pipe open, and has DRAIN_S"
    SEALED = "DRAIN_S is over, and what the pipes held has been read"
    CUT = "as SEALED, but an outsider still held a pipe open then; what it writes later is lost"


class Event(Enum):
    """What may happen to a task or its shim."""

    ASKED = "the engine asks the task to quit"
    LEADER_GONE = "the leader has ended, and processes of its tree live"
    TREE_GONE = "no process of the tree lives"
    DEADLINE = "the deadline has passed, and the disk takes output"
    DEADLINE_BLOCKED = "the deadline has passed, and the disk takes no output"
    BLOCKED = "the disk stops taking output"
    UNBLOCKED = "the disk takes output again"
    HELD_OPEN = "everything there is was read, and an outsider holds a pipe open"


class Action(Enum):
    """What the shim shall do to its task."""

    NOTHING = "nothing"
    TERM_GROUP = "SIGTERM, then SIGCONT, to the process group of the leader"
    TERM_TREE = "SIGTERM, then SIGCONT, to everything that is left"
    KILL_TREE = "SIGKILL to everything that is left"
    SEAL = "read what the pipes hold, and no more"


class Timer(Enum):
    """What becomes of the deadline."""

    KEEP = "it stays as it is"
    GRACE = "now and the grace period, unless the deadline that is set already is earlier"
    ROUND = "the next round of SIGKILL"
    DRAIN = "the time for outsiders begins, or begins anew"
    NONE = "there is none"


# What to do, what becomes of the deadline, and the next state; None where the event changes nothing.
_Cell = tuple[Action, Timer, State] | None
_NOP: _Cell = None

# Some nops are for an event that a monitor does not report in that state: the shim must not die of a surprise, for its
# task would die with it.
TABLE: dict[State, dict[Event, _Cell]] = {
    State.RUNNING: {
        Event.ASKED: (Action.TERM_GROUP, Timer.GRACE, State.STOPPING),
        Event.LEADER_GONE: (Action.TERM_TREE, Timer.GRACE, State.LEADERLESS),
        Event.TREE_GONE: (Action.NOTHING, Timer.DRAIN, State.DRAINING),
        Event.DEADLINE: _NOP,
        Event.DEADLINE_BLOCKED: _NOP,
        Event.BLOCKED: _NOP,
        Event.UNBLOCKED: _NOP,
        Event.HELD_OPEN: _NOP,
    },
    State.STOPPING: {
        Event.ASKED: (Action.TERM_GROUP, Timer.GRACE, State.STOPPING),
        Event.LEADER_GONE: (Action.TERM_TREE, Timer.GRACE, State.LEADERLESS),
        Event.TREE_GONE: (Action.NOTHING, Timer.DRAIN, State.DRAINING),
        Event.DEADLINE: (Action.KILL_TREE, Timer.ROUND, State.KILLING),
        Event.DEADLINE_BLOCKED: (Action.KILL_TREE, Timer.ROUND, State.KILLING),
        Event.BLOCKED: _NOP,
        Event.UNBLOCKED: _NOP,
        Event.HELD_OPEN: _NOP,
    },
    State.KILLING: {
        Event.ASKED: _NOP,
        Event.LEADER_GONE: (Action.KILL_TREE, Timer.KEEP, State.SWEEPING),
        Event.TREE_GONE: (Action.NOTHING, Timer.DRAIN, State.DRAINING),
        Event.DEADLINE: (Action.KILL_TREE, Timer.ROUND, State.KILLING),
        Event.DEADLINE_BLOCKED: (Action.KILL_TREE, Timer.ROUND, State.KILLING),
        Event.BLOCKED: _NOP,
        Event.UNBLOCKED: _NOP,
        Event.HELD_OPEN: _NOP,
    },
    State.LEADERLESS: {
        Event.ASKED: _NOP,
        Event.LEADER_GONE: _NOP,
        Event.TREE_GONE: (Action.NOTHING, Timer.DRAIN, State.DRAINING),
        Event.DEADLINE: (Action.KILL_TREE, Timer.ROUND, State.SWEEPING),
        Event.DEADLINE_BLOCKED: (Action.KILL_TREE, Timer.ROUND, State.SWEEPING),
        Event.BLOCKED: _NOP,
        Event.UNBLOCKED: _NOP,
        Event.HELD_OPEN: _NOP,
    },
    State.SWEEPING: {
        Event.ASKED: _NOP,
        Event.LEADER_GONE: _NOP,
        Event.TREE_GONE: (Action.NOTHING, Timer.DRAIN, State.DRAINING),
        Event.DEADLINE: (Action.KILL_TREE, Timer.ROUND, State.SWEEPING),
        Event.DEADLINE_BLOCKED: (Action.KILL_TREE, Timer.ROUND, State.SWEEPING),
        Event.BLOCKED: _NOP,
        Event.UNBLOCKED: _NOP,
        Event.HELD_OPEN: _NOP,
    },
    State.DRAINING: {
        Event.ASKED: _NOP,
        Event.LEADER_GONE: _NOP,
        Event.TREE_GONE: _NOP,
        Event.DEADLINE: (Action.SEAL, Timer.NONE, State.SEALED),
        # The shim waits for the disk, not for an outsider.
        Event.DEADLINE_BLOCKED: (Action.NOTHING, Timer.DRAIN, State.DRAINING),
        Event.BLOCKED: _NOP,
        # The shim read nothing while the disk was full, so outsiders get their time again.
        Event.UNBLOCKED: (Action.NOTHING, Timer.DRAIN, State.DRAINING),
        Event.HELD_OPEN: _NOP,
    },
    State.SEALED: {
        Event.ASKED: _NOP,
        Event.LEADER_GONE: _NOP,
        Event.TREE_GONE: _NOP,
        Event.DEADLINE: _NOP,
        Event.DEADLINE_BLOCKED: _NOP,
        # The pipes still hold something that the disk did not take: once more, later.
        Event.BLOCKED: (Action.NOTHING, Timer.DRAIN, State.DRAINING),
        Event.UNBLOCKED: _NOP,
        Event.HELD_OPEN: (Action.NOTHING, Timer.KEEP, State.CUT),
    },
    State.CUT: {
        Event.ASKED: _NOP,
        Event.LEADER_GONE: _NOP,
        Event.TREE_GONE: _NOP,
        Event.DEADLINE: _NOP,
        Event.DEADLINE_BLOCKED: _NOP,
        Event.BLOCKED: _NOP,
        Event.UNBLOCKED: _NOP,
        Event.HELD_OPEN: _NOP,
    },
}
# In these the leader lives.
_LED = (State.RUNNING, State.STOPPING, State.KILLING)


class Termination:
    """The end of one task: its state, its deadline, and in which state its leader ended or is."""

    def __init__(self, drain_s: float = DRAIN_S) -> None:
        self.state = State.RUNNING
        self.deadline: float | None = None
        self._leader_in = State.RUNNING
        self._drain_s = drain_s
        self._round_s = _FIRST_ROUND_S

    def __repr__(self) -> str:
        return f"<Termination {self.state.name}, leader {self._leader_in.name}, until {self.deadline}>"

    @property
    def was_signalled(self) -> bool:
        """Whether levity sent SIGTERM to the leader because the engine asked for it."""
        return self._leader_in is not State.RUNNING

    @property
    def killed_leader(self) -> bool:
        """Whether levity sent SIGKILL to the leader."""
        return self._leader_in is State.KILLING

    @property
    def was_cut(self) -> bool:
        """Whether an outsider may have written output that is lost."""
        return self.state is State.CUT

    def on(self, event: Event, now: float, grace_s: float = 0.0) -> Action:
        """Take an event and return what to do now; `grace_s` counts where the event gives a grace period."""
        cell = TABLE[self.state][event]
        if cell is None:
            return Action.NOTHING
        action, timer, self.state = cell
        if self.state in _LED:
            self._leader_in = self.state
        if timer is Timer.GRACE:
            end = now + grace_s
            self.deadline = end if self.deadline is None else min(self.deadline, end)
        elif timer is Timer.ROUND:
            self.deadline = now + self._round_s
            self._round_s = min(self._round_s * 2, _LAST_ROUND_S)
        elif timer is Timer.DRAIN:
            self.deadline = now + self._drain_s
        elif timer is Timer.NONE:
            self.deadline = None
        return action

    def tick(self, now: float, *, is_blocked: bool = False) -> Action:
        """Act on the deadline if it has passed; `is_blocked`: the disk takes no output."""
        if self.deadline is None or now < self.deadline:
            return Action.NOTHING
        return self.on(Event.DEADLINE_BLOCKED if is_blocked else Event.DEADLINE, now)
