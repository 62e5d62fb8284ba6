"""A clock that goes on only when a test or a pause moves it. Runs in: tests. Owns: nothing."""

from collections.abc import Callable

from levity.transport.connection import Clock

__all__ = ["FakeClock"]


class FakeClock(Clock):
    """`pauses` are the seconds of each sleep, which takes no real time. `act` is called in the `at`-th one."""

    def __init__(self, at: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.time = 100.0
        self.pauses: list[float] = []
        self._at = at
        self._act = act

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds
        if len(self.pauses) == self._at:
            self._act()
