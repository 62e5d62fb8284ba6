"""The queue of events: no event is lost, and no signal, at any time and to any thread. Runs in: pytest."""

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from levity.cli.wakeups import WakeupQueue


@pytest.fixture
def events() -> Iterator[WakeupQueue]:
    """A queue for the main thread of the test."""
    with WakeupQueue() as one:
        yield one


@pytest.fixture
def sigusr1_is_an_event(events: WakeupQueue) -> Iterator[None]:
    """SIGUSR1 puts an event."""

    def handler(number: int, _frame: FrameType | None) -> None:
        events.put(signal.Signals(number))

    old = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, old)


def test_events_come_in_the_order_of_each_thread(events: WakeupQueue) -> None:
    def put_all(thread: int) -> None:
        for number in range(3000):
            events.put((thread, number))

    threads = [threading.Thread(target=put_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    found = [events.get() for _ in range(4 * 3000)]
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [event for event in found if event[0] == number] == [(number, n) for n in range(3000)]  # type: ignore[index]


def test_more_than_its_pipe_holds(events: WakeupQueue) -> None:
    for number in range(70_000):
        events.put(number)
    assert [events.get() for _ in range(70_000)] == list(range(70_000))


@pytest.mark.usefixtures("sigusr1_is_an_event")
def test_a_signal_that_interrupts_no_call_of_the_main_thread_is_an_event(events: WakeupQueue) -> None:
    """As a signal does that comes just before the main thread waits."""
    thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
    threading.Timer(0.05, thread.start).start()
    assert events.get() is signal.SIGUSR1
    thread.join()


@pytest.mark.usefixtures("sigusr1_is_an_event")
def test_a_signal_is_an_event(events: WakeupQueue) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    assert events.get() is signal.SIGUSR1


def test_afterwards_nothing_is_left_and_nothing_is_written() -> None:
    before = signal.set_wakeup_fd(-1)
    with WakeupQueue() as one:
        pass
    assert signal.set_wakeup_fd(before) == -1
    one.put("too late")
