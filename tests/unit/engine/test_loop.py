"""The engine's loop: who is ready, what is due, in which order."""

import os
import time
from collections.abc import Iterator

import pytest

from supervisor.engine.loop import Loop


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    fds = (*os.pipe(), *os.pipe())
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def loop() -> Iterator[Loop]:
    one = Loop()
    yield one
    one._selector.close()  # The engine's own lives as long as its process.


def nothing() -> None:
    pass


def test_timers_go_off_in_order_and_not_early(loop: Loop) -> None:
    seen: list[str] = []
    begin = time.monotonic()
    loop.later(0.5, lambda: seen.append("second") or loop.stop())  # type: ignore[func-returns-value]
    loop.later(0.0, lambda: seen.append("first"))
    loop.run(nothing)
    assert seen == ["first", "second"]
    assert time.monotonic() - begin >= 0.5


def test_a_timer_is_due_by_the_clock_that_the_loop_was_given() -> None:
    now = [1e6]
    loop = Loop(lambda: now[0])
    seen: list[str] = []

    def an_hour_passes() -> None:
        now[0] += 3600
        seen.append("hour")

    loop.later(3600, lambda: seen.append("due") or loop.stop())  # type: ignore[func-returns-value]
    loop.later(3601, lambda: seen.append("too early"))
    loop.later(0, an_hour_passes)
    loop.run(nothing)
    loop._selector.close()
    assert seen == ["hour", "due"]


def test_timers_of_the_same_moment_keep_their_order(loop: Loop) -> None:
    seen: list[int] = []
    for number in range(20):
        loop.later(0.0, lambda number=number: seen.append(number))  # type: ignore[misc]
    loop.later(0.01, loop.stop)
    loop.run(nothing)
    assert seen == list(range(20))


def test_a_cancelled_timer_does_not_go_off(loop: Loop) -> None:
    seen: list[str] = []
    loop.later(0.0, lambda: seen.append("cancelled")).cancel()
    loop.later(0.01, loop.stop)
    loop.run(nothing)
    assert seen == []


def test_timers_that_are_cancelled_long_before_they_are_due_do_not_pile_up(loop: Loop) -> None:
    kept = [loop.later(3600, nothing) for _ in range(100)]
    for _ in range(20_000):
        loop.later(3600, nothing).cancel()
    assert len(loop._timers) < 3000
    assert all(timer in {entry[2] for entry in loop._timers} for timer in kept)
    seen: list[int] = []
    loop.later(0.5, lambda: seen.append(2) or loop.stop())  # type: ignore[func-returns-value]
    loop.later(0.01, lambda: seen.append(1))
    loop.run(nothing)
    assert seen == [1, 2]


def test_a_timer_that_sets_another_does_not_starve_the_loop(loop: Loop) -> None:
    turns: list[int] = []

    def again() -> None:
        loop.later(0.0, again)

    def after_turn() -> None:
        turns.append(1)
        if len(turns) == 5:
            loop.stop()

    again()
    loop.run(after_turn)
    assert len(turns) == 5


def test_a_descriptor_forgotten_in_a_turn_is_not_called_in_it(loop: Loop, pipes: tuple[int, int, int, int]) -> None:
    """Both are ready at once; whichever comes first forgets the other."""
    seen: list[int] = []

    def call(own: int, other: int) -> None:
        seen.append(own)
        loop.forget(own)
        loop.forget(other)
        loop.stop()

    first, first_end, second, second_end = pipes
    os.write(first_end, b"x")
    os.write(second_end, b"x")
    loop.watch(first, lambda _events: call(first, second))
    loop.watch(second, lambda _events: call(second, first))
    loop.run(nothing)
    assert len(seen) == 1


def test_watching_again_replaces_the_call(loop: Loop, pipes: tuple[int, int, int, int]) -> None:
    seen: list[str] = []
    os.write(pipes[1], b"x")
    loop.watch(pipes[0], lambda _events: seen.append("old"))
    loop.watch(pipes[0], lambda _events: seen.append("new"))
    loop.run(loop.stop)
    assert seen == ["new"]
    loop.forget(pipes[0])
