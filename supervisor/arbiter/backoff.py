"""When to start a dead child again. Runs in: arbiter. Owns: nothing. Never: reads a clock itself."""

from collections import deque

__all__ = ["Backoff"]

# A child that dies before it is ready, so many times in a row, is not started again: trying does not help.
UNREADY_LIMIT = 5
_FIRST_UNREADY_S = 0.1
# A child that worked and then dies was killed by somebody: start it again at once, later only if it goes on dying.
_WINDOW_S = 10.0
_FREE_DEATHS = 5
_LONGEST_S = 0.5


class Backoff:
    """The restarts of one child."""

    def __init__(self) -> None:
        self._unready = 0
        self._deaths: deque[float] = deque()

    def __repr__(self) -> str:
        return f"<Backoff {self._unready} unready, {len(self._deaths)} recent deaths>"

    def died(self, now: float, *, was_ready: bool) -> float | None:
        """Return in how many seconds to start it again; None to give up."""
        if not was_ready:
            self._unready += 1
            return None if self._unready >= UNREADY_LIMIT else _FIRST_UNREADY_S * 2 ** (self._unready - 1)
        self._unready = 0
        self._deaths.append(now)
        while self._deaths[0] < now - _WINDOW_S:
            self._deaths.popleft()
        return min(_LONGEST_S, 0.05 * max(0, len(self._deaths) - _FREE_DEATHS))
