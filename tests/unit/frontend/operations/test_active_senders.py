"""Only those who have something to send count."""

import threading

from supervisor.frontend.operations.active_senders import ActiveSenders


def in_thread(busy: ActiveSenders, now: float) -> None:
    thread = threading.Thread(target=busy.count, args=(now,))
    thread.start()
    thread.join()


def test_only_recent_senders_count() -> None:
    busy = ActiveSenders()
    assert busy.count(1000.0) == 1
    assert busy.count(1000.01) == 1
    for _ in range(20):
        in_thread(busy, 1000.02)
    # A thread's number may be given again once it has ended.
    several = busy.count(1000.03)
    assert several >= 2
    assert busy.count(1000.06) == several
    assert busy.count(1000.5) == 1
