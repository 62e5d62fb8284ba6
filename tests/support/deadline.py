"""Wait for what should come true, with a deadline and a telling failure. Owns: nothing."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["eventually"]

Value = TypeVar("Value")

# The first look is at once, the next ones ever further apart: quick answers stay quick, slow ones burn no processor.
FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.05


def eventually(condition: Callable[[], Value], what: str, timeout_s: float = 10) -> Value:
    """Return the first true value of `condition()`.

    Raise AssertionError after `timeout_s`: it names `what` was waited for and the condition's last answer. An
    AssertionError or OSError raised by the condition means "not yet".
    """
    deadline = time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    last: object = None
    while True:
        try:
            value = condition()
        except (AssertionError, OSError) as error:
            last = error
        else:
            if value:
                return value
            last = value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}; last: {last!r}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
