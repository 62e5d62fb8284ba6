"""Why levityd does not start, or cannot go on. Runs in: arbiter. Owns: nothing."""

__all__ = ["CONFIGURATION", "FAILED", "SOFTWARE", "StartupError"]

FAILED = 1
# sysexits.h: a setting is wrong; levityd itself is broken.
CONFIGURATION = 78
SOFTWARE = 70


class StartupError(Exception):
    """levityd cannot run: one line for the operator, and the exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
