"""Deadlines, and how often a broken request is tried again. Runs in: client. Owns: nothing.

Only monotonic time is used: a step of the wall clock ends no request.
"""

from time import monotonic, sleep

from levity.errors import InvalidRequest, LevityError, ServerUnreachable

__all__ = ["ConnectionLost", "Deadline", "Patience", "check_timeout"]

# A levityd that is restarted is back within a second: look for it often at first, then without burning a processor.
FIRST_PAUSE_S = 0.010
LONGEST_PAUSE_S = 0.250
# A socket's timeout is a C int of milliseconds, 24 days.
TIMEOUT_LIMIT_S = 1_000_000.0


class ConnectionLost(ServerUnreachable):
    """A levityd is or was there, and the connection to it broke: the one failure worth another try."""


class Deadline:
    """The moment at which `timeout_s` seconds from now are over."""

    __slots__ = ("_at", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.renew()

    def __repr__(self) -> str:
        return f"<Deadline in {self.left():.3f} of {self.timeout_s:g} s>"

    def renew(self) -> None:
        """Let the time begin anew: a sign of life came."""
        self._at = monotonic() + self.timeout_s

    def left(self) -> float:
        """Return the seconds that are left: zero or less once it is over."""
        return self._at - monotonic()


class Patience:
    """Decides whether a request that failed is sent again, and waits before it is.

    `connected` says whether a levityd was seen: where none ever was, there is nobody to wait for.
    """

    def __init__(self, timeout_s: float, connected: bool = False) -> None:
        self.connected = connected
        self.renew(timeout_s)

    def __repr__(self) -> str:
        return f"<Patience {self.deadline!r}, {'connected' if self.connected else 'never connected'}>"

    def renew(self, timeout_s: float) -> None:
        """Start over: the request got on."""
        self.deadline = Deadline(timeout_s)
        self._pause_s = FIRST_PAUSE_S

    def wait(self, error: LevityError) -> None:
        """Block until the next try is due; raise where there is none because of who failed or because time is over."""
        unreachable = isinstance(error, ServerUnreachable)
        if unreachable and not (self.connected or isinstance(error, ConnectionLost)):
            raise error
        self.connected = True
        # A try with no time left would only hide what really happened behind a timeout.
        if self.deadline.left() <= self._pause_s:
            raise type(error)(f"{error.message} (tried again for {self.deadline.timeout_s:g} s)") from error
        sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)


def check_timeout(timeout_s: float) -> float:
    """Return `timeout_s` as it is if a request can wait so long; InvalidRequest if not."""
    try:
        if 0 < timeout_s <= TIMEOUT_LIMIT_S:
            return float(timeout_s)
    except TypeError:
        pass
    raise InvalidRequest(
        f"a timeout of {timeout_s!r} s makes no sense; give a number over 0 up to {TIMEOUT_LIMIT_S:.0f}"
    )
