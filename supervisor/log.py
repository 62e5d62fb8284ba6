"""Lines for the operator, on standard error. Runs in: arbiter, engine, front-end. Owns: nothing."""

import os
import time
from collections.abc import Callable

__all__ = ["SparseLog", "log"]

_QUIET_S = 60.0


def log(text: str) -> None:
    """Write one line to standard error, in one piece; where it cannot be written, go on."""
    try:
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


class SparseLog:
    """Writes at most one line a minute about something that a peer can cause any number of times."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, write: Callable[[str], None] = log) -> None:
        self._clock = clock
        self._write = write
        self._quiet_until = float("-inf")
        self._left_out = 0

    def log(self, text: str) -> None:
        """Write one line, and how many were left out before it; or leave it out."""
        now = self._clock()
        if now < self._quiet_until:
            self._left_out += 1
            return
        self._write(f"{text} ({self._left_out} more since the last such line)" if self._left_out else text)
        self._quiet_until, self._left_out = now + _QUIET_S, 0
