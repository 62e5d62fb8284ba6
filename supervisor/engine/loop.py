"""The selector loop and its deadlines. Runs in: engine. Owns: the selector and the heap of timers."""

import heapq
import itertools
import selectors
import time
from collections.abc import Callable

__all__ = ["Loop", "Timer"]

# From so many timers on, cancelled ones are thrown out before they are due: a wait of an hour may be given up at once.
_FIRST_TIDY = 1024


class Timer:
    """A call that is due at `when`, in the loop's seconds, unless it is cancelled."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Let it never be called."""
        self.call = None


class Loop:
    """Call what is ready or due, one at a time, until `stop`. `now()` is monotonic, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._tidy_at = _FIRST_TIDY
        self._running = True

    def __repr__(self) -> str:
        return f"<Loop {len(self._selector.get_map())} descriptors, {len(self._timers)} timers>"

    def watch(self, fd: int, call: Callable[[int], None], events: int = selectors.EVENT_READ) -> None:
        """Call `call(events)` whenever `fd` is ready for `events`; watching it again replaces both."""
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, call)
        else:
            self._selector.register(fd, events, call)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; call before closing it."""
        self._selector.unregister(fd)

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call `call()` once, in `delay_s` seconds."""
        timer = Timer(self._now() + delay_s, call)
        if len(self._timers) >= self._tidy_at:
            self._timers = [entry for entry in self._timers if entry[2].call is not None]
            heapq.heapify(self._timers)
            self._tidy_at = max(_FIRST_TIDY, 2 * len(self._timers))
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    def stop(self) -> None:
        """Have `run` return after the current turn."""
        self._running = False

    def run(self, after_turn: Callable[[], None]) -> None:
        """Turn until `stop`; `after_turn` is called at the end of each turn, before the loop sleeps."""
        while self._running:
            ready = self._selector.select(self._sleep_s())
            for key, events in ready:
                # An earlier call of this turn may have had the loop forget this descriptor.
                if self._selector.get_map().get(key.fd) is key:
                    key.data(events)
            self._call_due()
            after_turn()

    def _sleep_s(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self._now()) if self._timers else None

    def _call_due(self) -> None:
        now = self._now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                timer.call()
