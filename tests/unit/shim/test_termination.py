"""How a task is brought to its end, without any process: the whole table, and every order of events."""

from copy import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor.shim.termination import DRAIN_S, TABLE, Action, Event, State, Termination, Timer

DRAIN = 10.0
# How many rows of seven events a monitor may report.
ORDERS = 16_757
PRODUCT = [(state, event) for state in State for event in Event]
LED = {State.RUNNING, State.STOPPING, State.KILLING}
OVER = {State.DRAINING, State.SEALED, State.CUT}
# By which events each state is reached in the shortest way.
WAYS: dict[State, list[Event]] = {
    State.RUNNING: [],
    State.STOPPING: [Event.ASKED],
    State.KILLING: [Event.ASKED, Event.DEADLINE],
    State.LEADERLESS: [Event.LEADER_GONE],
    State.SWEEPING: [Event.LEADER_GONE, Event.DEADLINE],
    State.DRAINING: [Event.TREE_GONE],
    State.SEALED: [Event.TREE_GONE, Event.DEADLINE],
    State.CUT: [Event.TREE_GONE, Event.DEADLINE, Event.HELD_OPEN],
}


def reached(state: State) -> Termination:
    termination = Termination(DRAIN)
    for event in WAYS[state]:
        termination.on(event, 100.0, 5.0)
    assert termination.state is state
    return termination


# The table


def test_every_state_says_what_every_event_does() -> None:
    assert list(TABLE) == list(State)
    for row in TABLE.values():
        assert list(row) == list(Event)


@pytest.mark.parametrize(("state", "event"), PRODUCT, ids=lambda value: value.name)
def test_each_cell_does_what_it_says(state: State, event: Event) -> None:
    termination = reached(state)
    before = termination.deadline
    assert (
        before
        == {
            State.RUNNING: None,
            State.STOPPING: 105.0,
            State.KILLING: 100.01,
            State.LEADERLESS: 105.0,
            State.SWEEPING: 100.01,
            State.DRAINING: 110.0,
            State.SEALED: None,
            State.CUT: None,
        }[state]
    )
    action, timer, after = TABLE[state][event] or (Action.NOTHING, Timer.KEEP, state)
    assert termination.on(event, 101.0, 3.0) is action
    assert termination.state is after
    assert (
        termination.deadline
        == {
            Timer.KEEP: before,
            Timer.GRACE: 104.0,
            Timer.ROUND: 101.01 if before != 100.01 else 101.02,
            Timer.DRAIN: 111.0,
            Timer.NONE: None,
        }[timer]
    )


@pytest.mark.parametrize(("state", "event"), PRODUCT, ids=lambda value: value.name)
def test_each_cell_keeps_the_laws(state: State, event: Event) -> None:
    action, timer, after = TABLE[state][event] or (Action.NOTHING, Timer.KEEP, state)
    # Nothing comes back to life, and what is over is not signalled.
    assert after not in LED or state in LED
    assert (after in OVER) >= (state in OVER)
    if state in OVER:
        assert action in (Action.NOTHING, Action.SEAL)
    # The group is the leader's: its id may be another process's once the leader is reaped.
    assert action is not Action.TERM_GROUP or state in LED
    # A tree that was signalled is called for until nothing of it lives.
    if after not in OVER | {State.RUNNING}:
        assert timer is not Timer.NONE
    # SIGKILL is never followed by SIGTERM.
    if state in (State.KILLING, State.SWEEPING):
        assert action in (Action.NOTHING, Action.KILL_TREE)
    # What the disk does is no reason for any signal, and does not hold one up.
    if event in (Event.BLOCKED, Event.UNBLOCKED):
        assert action is Action.NOTHING
    if state not in OVER:
        assert TABLE[state][Event.DEADLINE] == TABLE[state][Event.DEADLINE_BLOCKED]
    # A nop is written as one.
    assert TABLE[state][event] != (Action.NOTHING, Timer.KEEP, state)


@pytest.mark.parametrize("state", State)
def test_what_was_done_to_the_leader_follows_from_the_states(state: State) -> None:
    termination = reached(state)
    assert termination.was_signalled == (state in (State.STOPPING, State.KILLING))
    assert termination.killed_leader == (state is State.KILLING)
    assert termination.was_cut == (state is State.CUT)


@pytest.mark.parametrize("led", [State.STOPPING, State.KILLING])
def test_what_was_done_to_the_leader_is_known_once_all_is_over(led: State) -> None:
    termination = reached(led)
    for event in (Event.LEADER_GONE, Event.DEADLINE, Event.TREE_GONE, Event.DEADLINE, Event.HELD_OPEN):
        termination.on(event, 200.0, 5.0)
        assert termination.was_signalled
        assert termination.killed_leader == (led is State.KILLING)
    assert termination.was_cut


# By hand


def test_nothing_is_due_before_anything_happens() -> None:
    termination = Termination()
    assert termination.deadline is None
    assert termination.tick(1e9) is Action.NOTHING


def test_a_signal_and_its_grace() -> None:
    termination = Termination()
    assert termination.on(Event.ASKED, 100.0, 5.0) is Action.TERM_GROUP
    assert termination.tick(104.999) is Action.NOTHING
    assert termination.tick(105.0) is Action.KILL_TREE
    assert termination.killed_leader


def test_of_two_signals_the_earlier_deadline_holds() -> None:
    termination = Termination()
    termination.on(Event.ASKED, 100.0, 5.0)
    assert termination.on(Event.ASKED, 101.0, 60.0) is Action.TERM_GROUP
    assert termination.deadline == 105.0
    assert termination.on(Event.ASKED, 102.0, 1.0) is Action.TERM_GROUP
    assert termination.deadline == 103.0


def test_processes_that_a_leader_leaves_get_the_same_grace_but_the_leader_was_not_killed() -> None:
    termination = Termination()
    assert termination.on(Event.LEADER_GONE, 100.0, 5.0) is Action.TERM_TREE
    assert termination.on(Event.ASKED, 101.0, 0.0) is Action.NOTHING
    assert termination.tick(105.0) is Action.KILL_TREE
    assert not termination.killed_leader
    assert not termination.was_signalled


def test_the_rounds_of_killing_grow_rarer_but_never_end() -> None:
    termination = Termination()
    termination.on(Event.ASKED, 0.0, 0.0)
    now, waits = 0.0, []
    for _ in range(20):
        assert termination.tick(now) is Action.KILL_TREE
        assert termination.deadline is not None
        waits.append(round(termination.deadline - now, 6))
        now = termination.deadline
    assert waits[0] < 0.02
    assert waits == sorted(waits)
    assert waits[-1] == 1.0


def test_an_outsider_is_waited_for_and_then_no_longer() -> None:
    termination = Termination()
    termination.on(Event.TREE_GONE, 100.0)
    assert termination.tick(100.0 + DRAIN_S - 0.001) is Action.NOTHING
    assert termination.tick(100.0 + DRAIN_S) is Action.SEAL
    assert termination.deadline is None
    before = termination.was_cut  # It may turn out that no process had one open any more.
    termination.on(Event.HELD_OPEN, 110.0)
    assert (before, termination.was_cut) == (False, True)
    assert termination.tick(1e9) is Action.NOTHING


def test_a_full_disk_is_no_outsider() -> None:
    termination = Termination(drain_s=3.0)
    termination.on(Event.TREE_GONE, 100.0)
    assert termination.tick(103.0, is_blocked=True) is Action.NOTHING
    assert termination.deadline == 106.0
    assert termination.tick(106.0) is Action.SEAL
    # The disk was full before all that was there was stored.
    termination.on(Event.BLOCKED, 107.0)
    assert termination.tick(109.9) is Action.NOTHING
    assert termination.tick(110.0) is Action.SEAL


# In any order, and against what six flags did


class Model:
    """The decisions as six flags: what they were before they were a table."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.signalled = self.killed = self.killed_leader = self.sealed = False
        self._leader_gone = self._tree_gone = False
        self._round_s = 0.01

    def on(self, event: Event, now: float, grace_s: float) -> list[Action]:
        if event is Event.ASKED:
            return self._asked(now, grace_s)
        if event is Event.LEADER_GONE:
            return self._leader_exited(now, grace_s)
        if event in (Event.DEADLINE, Event.DEADLINE_BLOCKED):
            return self._tick(now, blocked=event is Event.DEADLINE_BLOCKED)
        if event is Event.HELD_OPEN:
            self.sealed = True
        else:
            # TREE_GONE; or no process is left and the disk takes output again, or refuses the last of it.
            self._leader_gone = self._tree_gone = True
            self.deadline = now + DRAIN
        return []

    def _asked(self, now: float, grace_s: float) -> list[Action]:
        if self._leader_gone or self.killed:
            return []
        self.signalled = True
        self._be_called_by(now + grace_s)
        return [Action.TERM_GROUP]

    def _leader_exited(self, now: float, grace_s: float) -> list[Action]:
        self._leader_gone = True
        if self.killed:
            return [Action.KILL_TREE]
        self._be_called_by(now + grace_s)
        return [Action.TERM_TREE]

    def _tick(self, now: float, *, blocked: bool) -> list[Action]:
        if self.deadline is None or now < self.deadline:
            return []
        if self._tree_gone:
            self.deadline = now + DRAIN if blocked else None
            return [] if blocked else [Action.SEAL]
        self.killed = True
        self.killed_leader |= not self._leader_gone
        self.deadline = now + self._round_s
        self._round_s = min(self._round_s * 2, 1.0)
        return [Action.KILL_TREE]

    def _be_called_by(self, deadline: float) -> None:
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)


def may_happen(done: tuple[Event, ...]) -> set[Event]:
    """Return what a monitor may report next."""
    turns = [event for event in done if event in (Event.BLOCKED, Event.UNBLOCKED)]
    is_blocked = turns[-1:] == [Event.BLOCKED]
    tree_gone = Event.TREE_GONE in done
    found = {Event.ASKED}
    if not tree_gone:
        found |= {Event.TREE_GONE} | ({Event.LEADER_GONE} - set(done))
    rest = done[done.index(Event.TREE_GONE) :] if tree_gone else ()
    is_sealed = [event for event in rest if event in (Event.DEADLINE, Event.BLOCKED)][-1:] == [Event.DEADLINE]
    if is_blocked:
        found |= {Event.DEADLINE_BLOCKED, Event.UNBLOCKED}
    elif not is_sealed:
        found |= {Event.DEADLINE, Event.BLOCKED}
    elif done[-1] is Event.DEADLINE:
        # The last bytes are read. Either the disk refuses some, or the pipes are closed, and nothing more is read.
        found |= {Event.BLOCKED, Event.HELD_OPEN}
    elif done[-1] is Event.HELD_OPEN:
        found |= {Event.HELD_OPEN}
    return found


class Walk:
    """A task after some events, in both forms. The walk forks at each event, so no order is begun anew."""

    def __init__(self) -> None:
        self.termination, self.model = Termination(DRAIN), Model()
        self.done: tuple[Event, ...] = ()
        self.now = 1000.0
        self.is_sealing = False

    def then(self, event: Event) -> "Walk":
        """Return the walk with one more event."""
        after = copy(self)
        after.termination, after.model = copy(self.termination), copy(self.model)
        after.done = (*self.done, event)
        after.step(event, 5.0 - len(self.done), is_over=Event.TREE_GONE in self.done)
        return after

    def step(self, event: Event, grace_s: float, *, is_over: bool) -> None:
        """Tell both of an event, and check that they do the same."""
        termination, model = self.termination, self.model
        if event in (Event.DEADLINE, Event.DEADLINE_BLOCKED):
            self.now = max(self.now, model.deadline or 0.0)
            action = termination.tick(self.now, is_blocked=event is Event.DEADLINE_BLOCKED)
        else:
            self.now += 0.003
            action = termination.on(event, self.now, grace_s)
        is_news = event not in (Event.BLOCKED, Event.UNBLOCKED) or is_over
        is_news &= event is not Event.BLOCKED or self.is_sealing
        told = model.on(event, self.now, grace_s) if is_news else []
        assert told == [one for one in [action] if one is not Action.NOTHING], self.done
        assert termination.deadline == model.deadline, self.done
        assert termination.was_signalled == model.signalled, self.done
        assert termination.killed_leader == model.killed_leader, self.done
        assert termination.was_cut == model.sealed, self.done
        self.is_sealing = action is Action.SEAL


def test_every_order_of_events_has_the_effects_of_the_six_flags() -> None:
    seen = set()
    walks = [Walk()]
    for _ in range(7):
        ahead = [(walk, event) for walk in walks for event in may_happen(walk.done)]
        seen |= {(walk.termination.state, event) for walk, event in ahead}
        walks = [walk.then(event) for walk, event in ahead]
    assert len(walks) == ORDERS
    # Everything that a monitor can report was in one of them.
    assert {cell for cell in PRODUCT if TABLE[cell[0]][cell[1]]} <= seen


class AnyOrder(RuleBasedStateMachine):
    """Events in any order in which a monitor may report them, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.termination = Termination(DRAIN)
        self.now = 1000.0
        self.leader_gone = self.tree_gone = False
        self.asked_at: list[float] = []  # deadlines that were asked for
        self.killed = self.leader_killed = False
        self.seals = 0
        self.gone_at = 0.0

    @rule(grace_s=st.floats(0, 60))
    def asked(self, grace_s: float) -> None:
        action = self.termination.on(Event.ASKED, self.now, grace_s)
        if self.leader_gone or self.killed:
            assert action is Action.NOTHING
        else:
            assert action is Action.TERM_GROUP
            self.asked_at.append(self.now + grace_s)

    @precondition(lambda self: not self.leader_gone)
    @rule(grace_s=st.floats(0, 60))
    def leader_exits_and_leaves_something(self, grace_s: float) -> None:
        self.leader_gone = True
        action = self.termination.on(Event.LEADER_GONE, self.now, grace_s)
        assert action is (Action.KILL_TREE if self.killed else Action.TERM_TREE)
        self.asked_at.append(self.now + grace_s)

    @precondition(lambda self: not self.tree_gone)
    @rule()
    def all_is_gone(self) -> None:
        self.leader_gone = self.tree_gone = True
        self.gone_at = self.now
        self.termination.on(Event.TREE_GONE, self.now)

    @rule(later_s=st.floats(0, 30), blocked=st.booleans())
    def time_passes(self, later_s: float, *, blocked: bool) -> None:
        self.now += later_s
        due = self.termination.deadline is not None and self.termination.deadline <= self.now
        action = self.termination.tick(self.now, is_blocked=blocked)
        if not due:
            assert action is Action.NOTHING
        elif self.tree_gone:
            assert action is (Action.NOTHING if blocked else Action.SEAL)
            self.seals += not blocked
            assert self.now >= self.gone_at + DRAIN
        else:
            assert action is Action.KILL_TREE
            assert min(self.asked_at) <= self.now
            self.killed = True
            self.leader_killed |= not self.leader_gone
        assert self.termination.deadline is None or self.termination.deadline > self.now

    @invariant()
    def nothing_is_invented(self) -> None:
        termination = self.termination
        assert termination.killed_leader == self.leader_killed
        assert self.seals <= 1
        assert not self.killed or bool(self.asked_at)
        # A task that was asked to quit is called for, until nothing is left of it.
        assert termination.deadline is not None or not self.asked_at or self.tree_gone


TestAnyOrder = AnyOrder.TestCase
# Every order is walked above; what this adds are the times.
TestAnyOrder.settings = settings(max_examples=30, stateful_step_count=30)
