"""The way of a task to its end, without any process: every order of events, every time."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor.shim.termination import DRAIN_S, Action, Course

DRAIN = 10.0


def test_nothing_is_due_before_anything_happens() -> None:
    course = Course()
    assert course.deadline is None
    assert course.tick(1e9) == []


def test_a_signal_and_its_grace() -> None:
    course = Course()
    assert course.signal(100.0, 5.0) == [Action.TERM_GROUP]
    assert course.tick(104.999) == []
    assert course.tick(105.0) == [Action.KILL_TREE]
    assert course.killed_leader


def test_of_two_signals_the_earlier_deadline_holds() -> None:
    course = Course()
    course.signal(100.0, 5.0)
    assert course.signal(101.0, 60.0) == [Action.TERM_GROUP]
    assert course.deadline == 105.0
    assert course.signal(102.0, 1.0) == [Action.TERM_GROUP]
    assert course.deadline == 103.0


def test_what_a_leader_leaves_gets_the_same_grace_but_the_leader_was_not_killed() -> None:
    course = Course()
    assert course.leader_exited(100.0, 5.0) == [Action.TERM_TREE]
    assert course.signal(101.0, 0.0) == []
    assert course.tick(105.0) == [Action.KILL_TREE]
    assert course.killed
    assert not course.killed_leader
    assert not course.signalled


def test_the_rounds_of_killing_grow_rarer_but_never_end() -> None:
    course = Course()
    course.signal(0.0, 0.0)
    now, waits = 0.0, []
    for _ in range(20):
        assert course.tick(now) == [Action.KILL_TREE]
        assert course.deadline is not None
        waits.append(round(course.deadline - now, 6))
        now = course.deadline
    assert waits[0] < 0.02
    assert waits == sorted(waits)
    assert waits[-1] == 1.0


def test_a_stranger_is_waited_for_and_then_no_longer() -> None:
    course = Course()
    course.tree_gone(100.0)
    assert course.tick(100.0 + DRAIN_S - 0.001) == []
    assert course.tick(100.0 + DRAIN_S) == [Action.SEAL]
    assert course.deadline is None
    before = course.sealed  # It may turn out that nobody held one any more.
    course.cut()
    assert (before, course.sealed) == (False, True)
    assert course.tick(1e9) == []


def test_a_full_disk_is_no_stranger() -> None:
    course = Course(drain_s=3.0)
    course.tree_gone(100.0)
    assert course.tick(103.0, blocked=True) == []
    assert course.deadline == 106.0
    assert course.tick(106.0) == [Action.SEAL]
    # The disk was full before all that was there was stored.
    course.tree_gone(107.0)
    assert course.tick(109.9) == []
    assert course.tick(110.0) == [Action.SEAL]


class AnyCourse(RuleBasedStateMachine):
    """Events in any order in which a monitor may report them."""

    def __init__(self) -> None:
        super().__init__()
        self.course = Course(DRAIN)
        self.now = 1000.0
        self.leader_gone = self.tree_gone = False
        self.asked_at: list[float] = []  # deadlines that were asked for
        self.leader_killed = False
        self.seals = 0
        self.gone_at = 0.0

    @rule(grace_s=st.floats(0, 60))
    def signal(self, grace_s: float) -> None:
        actions = self.course.signal(self.now, grace_s)
        if self.leader_gone or self.course.killed:
            assert actions == []
        else:
            assert actions == [Action.TERM_GROUP]
            self.asked_at.append(self.now + grace_s)

    @precondition(lambda self: not self.leader_gone)
    @rule(grace_s=st.floats(0, 60))
    def leader_exits_and_leaves_something(self, grace_s: float) -> None:
        self.leader_gone = True
        actions = self.course.leader_exited(self.now, grace_s)
        assert actions == ([Action.KILL_TREE] if self.course.killed else [Action.TERM_TREE])
        self.asked_at.append(self.now + grace_s)

    @precondition(lambda self: not self.tree_gone)
    @rule()
    def all_is_gone(self) -> None:
        self.leader_gone = self.tree_gone = True
        self.gone_at = self.now
        self.course.tree_gone(self.now)

    @rule(later_s=st.floats(0, 30), blocked=st.booleans())
    def time_passes(self, later_s: float, *, blocked: bool) -> None:
        self.now += later_s
        due = self.course.deadline is not None and self.course.deadline <= self.now
        actions = self.course.tick(self.now, blocked=blocked)
        if not due:
            assert actions == []
        elif self.tree_gone:
            assert actions == ([] if blocked else [Action.SEAL])
            self.seals += not blocked
            assert self.now >= self.gone_at + DRAIN
        else:
            assert actions == [Action.KILL_TREE]
            assert min(self.asked_at) <= self.now
            self.leader_killed |= not self.leader_gone
        assert self.course.deadline is None or self.course.deadline > self.now

    @invariant()
    def nothing_is_invented(self) -> None:
        course = self.course
        assert course.killed_leader == self.leader_killed
        assert self.seals <= 1
        assert not course.killed or bool(self.asked_at)
        # Whoever was asked to quit is called for, until nothing is left.
        assert course.deadline is not None or not self.asked_at or self.tree_gone


TestAnyCourse = AnyCourse.TestCase
