"""When a child that died is started again. Runs in: arbiter. Owns: nothing. Never: reads a clock itself."""

from collections import deque

__all__ = ["Backoff"]

# Dying before it was ready, so many times in a row, will not get better by trying.
UNREADY_LIMIT = 5
_FIRST_UNREADY_S = 0.1
# Dying after it worked is somebody's SIGKILL: come back at once, unless it goes on and on.
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
