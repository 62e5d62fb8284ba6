"""When the arbiter starts a child again."""

from supervisor.arbiter.backoff import UNREADY_LIMIT, Backoff


def test_a_child_that_worked_comes_back_at_once() -> None:
    backoff = Backoff()
    assert [backoff.died(now, was_ready=True) for now in (0.0, 1.0, 2.0)] == [0, 0, 0]


def test_a_child_that_is_killed_on_and_on_comes_back_ever_later_but_under_a_second() -> None:
    backoff = Backoff()
    delays = [backoff.died(number * 0.01, was_ready=True) or 0 for number in range(100)]
    assert delays == sorted(delays)
    assert delays[0] == 0
    assert 0.1 < delays[-1] < 1


def test_deaths_long_ago_are_forgiven() -> None:
    backoff = Backoff()
    for number in range(50):
        backoff.died(number * 0.01, was_ready=True)
    assert backoff.died(1000.0, was_ready=True) == 0


def test_a_child_that_never_gets_ready_is_given_up() -> None:
    backoff = Backoff()
    delays = [backoff.died(0.0, was_ready=False) for _ in range(UNREADY_LIMIT)]
    assert delays[-1] is None
    waits = [delay for delay in delays[:-1] if delay]
    assert len(waits) == UNREADY_LIMIT - 1
    assert waits == sorted(waits)


def test_getting_ready_once_starts_the_count_again() -> None:
    backoff = Backoff()
    for _ in range(UNREADY_LIMIT - 1):
        backoff.died(0.0, was_ready=False)
    assert backoff.died(0.0, was_ready=True) == 0
    assert backoff.died(0.0, was_ready=False) is not None
