"""Say something to the operator. Runs in: arbiter, engine, front-end. Owns: nothing."""

import os

__all__ = ["say"]


def say(text: str) -> None:
    """Write one line to standard error, in one piece; nobody who reads it, or no room, is no reason to stop."""
    try:
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
