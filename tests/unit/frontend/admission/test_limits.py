"""The limits: never too many, a flood drops its own, wrong tokens cost a source time, and all that came in goes out."""

import random
import sys
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor.frontend.admission.limits import AdmissionLimits, source_of

UNAUTHENTICATED, KNOWN, A_USER = 64, 1024, 256
SOURCES = [None, "10.0.0.1", "10.0.0.2", "2001:db8::/64"]
USERS = ["alice", "bob", "carol", "dave", "eve"]


class Connection:
    def __init__(self, source: str | None = None) -> None:
        self.source = source
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> AdmissionLimits:
    return AdmissionLimits(clock, random.Random(5))


def flood(limits: AdmissionLimits, source: str | None, count: int) -> list[Connection]:
    """Let so many in, and return those that are in then."""
    came = [Connection(source) for _ in range(count)]
    let_in = [connection for connection in came if limits.admit(connection, source)]
    return [connection for connection in let_in if not connection.is_dropped]


def fill(limits: AdmissionLimits, user: str, count: int, *, is_exempt: bool = False) -> list[Connection]:
    """Have so many connections of a user known."""
    found = []
    for _ in range(count):
        (connection,) = flood(limits, "10.9.9.9", 1)
        assert limits.known(connection, user, is_exempt=is_exempt)
        found.append(connection)
    return found


# Sources


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (("10.1.2.3", 4000), "10.1.2.3"),
        (("::ffff:10.1.2.3", 4000, 0, 0), "10.1.2.3"),
        (("2001:db8:1:2:3:4:5:6", 4000, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::1", 4000, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:3::1", 4000, 0, 0), "2001:db8:1:3::/64"),
        (("fe80::1%eth0", 4000, 0, 2), "fe80::/64%eth0"),
        (("127.0.0.1", 4000), None),
        (("127.9.9.9", 4000), None),
        (("::1", 4000, 0, 0), None),
        (("::ffff:127.0.0.1", 4000, 0, 0), None),
        ("", None),
        ("/run/levity/client", None),
        (b"\0abstract", None),
        (None, None),
    ],
)
def test_where_a_connection_comes_from(address: object, source: str | None) -> None:
    assert source_of(address) == source


# Unauthenticated connections


def test_so_many_unauthenticated_and_no_more(limits: AdmissionLimits) -> None:
    came = [Connection("10.0.0.1") for _ in range(UNAUTHENTICATED)]
    assert all(limits.admit(connection, "10.0.0.1") for connection in came)
    assert not any(connection.is_dropped for connection in came)
    one_more = Connection("10.0.0.1")
    is_in = limits.admit(one_more, "10.0.0.1")
    # Either another one was dropped, or the new one is not let in: the caller closes that.
    assert sum(connection.is_dropped for connection in came) == int(is_in)
    assert not one_more.is_dropped


@pytest.mark.parametrize("limit", [1, 5])
def test_they_can_be_told_to_be_fewer(clock: Clock, limit: int) -> None:
    limits = AdmissionLimits(clock, random.Random(5), unauthenticated_limit=limit)
    came = [Connection() for _ in range(UNAUTHENTICATED)]
    is_in = [limits.admit(connection, None) for connection in came]
    assert sum(in_ and not connection.is_dropped for connection, in_ in zip(came, is_in, strict=True)) == limit


def test_any_connection_of_that_source_may_be_dropped(limits: AdmissionLimits) -> None:
    """Neither always the first, nor always the last, nor always the new one."""
    gone: set[int] = set()
    for seed in range(400):
        limits = AdmissionLimits(Clock(), random.Random(seed))
        came = [Connection("10.0.0.1") for _ in range(UNAUTHENTICATED + 1)]
        is_in = [limits.admit(connection, "10.0.0.1") for connection in came]
        gone.update(number for number in range(65) if came[number].is_dropped or not is_in[number])
    assert len(gone) > 60


@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.sampled_from(["flood", "come", "know"]), st.integers(1, 100)), max_size=20),
)
def test_a_source_with_few_connections_gets_in_while_another_floods(seed: int, steps: list[tuple[str, int]]) -> None:
    limits = AdmissionLimits(Clock(), random.Random(seed))
    flood(limits, "10.0.0.1", 100)
    waiting: list[Connection] = []
    for what, count in steps:
        if what == "flood":
            flood(limits, "10.0.0.1", count)
        elif what == "come" and len(waiting) < UNAUTHENTICATED // 2 - 1:
            waiting.append(Connection("10.0.0.2"))
            assert limits.admit(waiting[-1], "10.0.0.2")
        elif what == "know" and waiting:
            assert limits.known(waiting.pop(0), "alice", is_exempt=True)
        assert not any(connection.is_dropped for connection in waiting)


def test_this_host_is_one_source_too(limits: AdmissionLimits) -> None:
    flood(limits, None, 500)
    few = flood(limits, "10.0.0.1", 20)
    flood(limits, None, 500)
    assert not any(connection.is_dropped for connection in few)


def test_a_dropped_connection_is_not_let_in_after_all(limits: AdmissionLimits) -> None:
    came = [Connection("10.0.0.1") for _ in range(100)]
    is_in = [limits.admit(connection, "10.0.0.1") for connection in came]
    assert any(connection.is_dropped for connection in came)
    for connection, let_in in zip(came, is_in, strict=True):
        assert limits.known(connection, "alice") == (let_in and not connection.is_dropped)
        limits.leave(connection)
        limits.leave(connection)
    assert "0 unauthenticated, 0 known" in repr(limits)


def test_a_connection_that_is_closed_already_can_be_dropped(limits: AdmissionLimits) -> None:
    class Closed(Connection):
        def drop(self) -> None:
            raise OSError(9, "Bad file descriptor")

    for _ in range(UNAUTHENTICATED):
        assert limits.admit(Closed(), "10.0.0.1")
    assert limits.admit(Connection(), "10.0.0.2")


# Those who are known


def test_a_user_has_so_many_connections_and_others_are_none_the_worse(limits: AdmissionLimits) -> None:
    mine = fill(limits, "alice", A_USER)
    (one_more,) = flood(limits, "10.0.0.1", 1)
    assert not limits.known(one_more, "alice")
    limits.leave(one_more)
    fill(limits, "bob", 1)
    limits.leave(mine[0])
    fill(limits, "alice", 1)
    fill(limits, "root", A_USER + 10, is_exempt=True)


def test_users_leave_room_for_unauthenticated_and_for_who_is_exempt(limits: AdmissionLimits) -> None:
    for user in USERS[:4]:
        fill(limits, user, A_USER)
    (one_more,) = flood(limits, "10.0.0.1", 1)
    assert not limits.known(one_more, "eve")
    limits.leave(one_more)
    newcomers = [Connection() for _ in range(UNAUTHENTICATED)]
    assert all(limits.admit(newcomer, "10.0.0.1") for newcomer in newcomers)
    assert not any(newcomer.is_dropped for newcomer in newcomers)
    for newcomer in newcomers:
        limits.leave(newcomer)
    root = fill(limits, "root", UNAUTHENTICATED, is_exempt=True)
    assert f"0 unauthenticated, {KNOWN + UNAUTHENTICATED} known" in repr(limits)
    assert flood(limits, "10.0.0.1", 1) == []
    limits.leave(root[0])
    fill(limits, "root", 1, is_exempt=True)


# Penalties


def test_each_failure_beyond_five_in_a_minute_costs_twice_as_long(limits: AdmissionLimits, clock: Clock) -> None:
    source = "10.0.0.1"
    for _ in range(5):
        limits.failed(source)
        assert flood(limits, source, 1)
    for penalty_s in (1, 2, 4, 8):
        limits.failed(source)
        clock.now += penalty_s - 0.01
        assert not flood(limits, source, 1)
        assert flood(limits, "10.0.0.2", 1)
        clock.now += 0.02
        assert flood(limits, source, 1)


def test_no_penalty_is_longer_than_a_minute(limits: AdmissionLimits, clock: Clock) -> None:
    for _ in range(5000):
        limits.failed("10.0.0.1")
    clock.now += 59.9
    assert not flood(limits, "10.0.0.1", 1)
    clock.now += 0.2
    assert flood(limits, "10.0.0.1", 1)
    # And the minute in which it failed is over, too.
    limits.failed("10.0.0.1")
    assert flood(limits, "10.0.0.1", 1)


def test_failures_that_are_far_between_cost_nothing(limits: AdmissionLimits, clock: Clock) -> None:
    for _ in range(100):
        limits.failed("10.0.0.1")
        assert flood(limits, "10.0.0.1", 1)
        clock.now += 13


def test_a_penalty_is_not_shortened_by_more_failures(limits: AdmissionLimits, clock: Clock) -> None:
    for _ in range(11):
        limits.failed("10.0.0.1")  # 32 seconds.
    clock.now += 31
    for connection in flood(limits, "10.0.0.2", 3):
        limits.leave(connection)
    assert not flood(limits, "10.0.0.1", 1)


def test_this_host_is_never_locked_out(limits: AdmissionLimits) -> None:
    for _ in range(5000):
        limits.failed(None)
    assert flood(limits, None, 1)
    assert "0 sources" in repr(limits)


def test_sources_are_forgotten_when_there_are_too_many(limits: AdmissionLimits) -> None:
    for _ in range(10):
        limits.failed("10.0.0.1")
        limits.failed("10.0.0.2")
    for number in range(4094):
        limits.failed(f"10.1.{number // 256}.{number % 256}")
    limits.failed("10.0.0.1")  # It is one of the newest now.
    limits.failed("10.2.0.0")
    assert "4096 sources" in repr(limits)
    assert not flood(limits, "10.0.0.1", 1)
    assert flood(limits, "10.0.0.2", 1)


# Anything


class Anything(RuleBasedStateMachine):
    """Whatever comes in which order: who is in, as we count, is who is in by the limits."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.limits = AdmissionLimits(self.clock, random.Random(7))
        self.unauthenticated: list[Connection] = []
        self.known: dict[Connection, str] = {}

    @rule(source=st.sampled_from(SOURCES), count=st.integers(1, 80))
    def come(self, source: str | None, count: int) -> None:
        for _ in range(count):
            connection = Connection(source)
            before = Counter(one.source for one in self.unauthenticated)
            is_in = self.limits.admit(connection, source)
            dropped = [one for one in self.unauthenticated if one.is_dropped]
            self.unauthenticated = [one for one in self.unauthenticated if not one.is_dropped]
            assert not connection.is_dropped
            assert len(dropped) <= int(is_in)
            before[source] += 1
            if dropped:
                assert before[dropped[0].source] == max(before.values())
                assert before.total() == UNAUTHENTICATED + 1 or len(self.known) > KNOWN
            if is_in:
                self.unauthenticated.append(connection)

    @precondition(lambda self: self.unauthenticated)
    @rule(user=st.sampled_from(USERS), count=st.integers(1, 70), is_exempt=st.booleans())
    def know(self, user: str, count: int, is_exempt: bool) -> None:
        for connection in self.unauthenticated[:count]:
            users = Counter(self.known.values())
            wanted = is_exempt or (users[user] < A_USER and len(self.known) < KNOWN)
            assert self.limits.known(connection, user, is_exempt=is_exempt) == wanted
            assert not self.limits.known(connection, user) or not wanted
            if wanted:
                self.unauthenticated.remove(connection)
                self.known[connection] = user

    @rule(of_known=st.booleans(), count=st.integers(1, 300))
    def leave(self, of_known: bool, count: int) -> None:
        for connection in list(self.known if of_known else self.unauthenticated)[-count:]:
            self.limits.leave(connection)
            self.known.pop(connection, None)
            if not of_known:
                self.unauthenticated.remove(connection)

    @rule(source=st.sampled_from(SOURCES), count=st.integers(1, 12))
    def fail(self, source: str | None, count: int) -> None:
        for _ in range(count):
            self.limits.failed(source)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: len(self.known) < KNOWN)
    @rule()
    def fill(self) -> None:
        """Get to where it is full, which few steps would."""
        for user in USERS[:4]:
            while Counter(self.known.values())[user] < A_USER and len(self.known) < KNOWN:
                connection = Connection("10.8.8.8")
                if not self.limits.admit(connection, "10.8.8.8"):
                    return
                self.unauthenticated = [one for one in self.unauthenticated if not one.is_dropped]
                assert self.limits.known(connection, user)
                self.known[connection] = user

    @invariant()
    def is_never_too_many(self) -> None:
        assert len(self.unauthenticated) <= UNAUTHENTICATED
        assert len(self.unauthenticated) + len(self.known) <= UNAUTHENTICATED + KNOWN
        assert set(self.limits._unauthenticated) == set(self.unauthenticated)
        assert set(self.limits._known) == set(self.known)
        assert self.limits._users == Counter(self.known.values())

    def teardown(self) -> None:
        for connection in [*self.unauthenticated, *self.known]:
            self.limits.leave(connection)
        assert "0 unauthenticated, 0 known" in repr(self.limits)
        assert not self.limits._users


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.mark.race
def test_threads_may_do_all_this_at_once() -> None:
    limits = AdmissionLimits()
    wrong: list[Any] = []

    def come_and_go(number: int) -> None:
        chance = random.Random(number)
        for turn in range(100):
            came = [Connection() for _ in range(40)]
            is_in = [limits.admit(connection, f"10.0.0.{number % 3}") for connection in came]
            for connection, let_in in zip(came, is_in, strict=True):
                if chance.random() < 0.5 and limits.known(connection, f"user{number}") and not let_in:
                    wrong.append(turn)
                limits.leave(connection)
            if len(limits._unauthenticated) > UNAUTHENTICATED + 1:  # One may be just coming in.
                wrong.append(turn)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=come_and_go, args=[number]) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert "0 unauthenticated, 0 known" in repr(limits)
    assert not limits._users
