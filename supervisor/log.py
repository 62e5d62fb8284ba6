"""Lines for the operator, on standard error. Runs in: arbiter, engine, front-end. Owns: nothing."""

import os

__all__ = ["say"]


def say(text: str) -> None:
    """Write one line, in one piece. That it cannot be written is no reason to stop."""
    try:
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
