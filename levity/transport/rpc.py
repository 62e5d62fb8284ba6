"""Call a levityd, again after each break of the connection. Runs in: client. Owns: one connection at a time.

Time is monotonic: a step of the wall clock ends no request.
"""

from levity.errors import (
    ConnectionLost,
    InvalidRequest,
    LevityError,
    NotExecutable,
    ServerUnreachable,
    Unavailable,
)
from levity.protocol.frames import FRAME_LIMIT
from levity.protocol.messages import request_frame
from levity.transport.connection import SYSTEM_CLOCK, Clock, Connection, Deadline, open_connection

__all__ = ["Retry", "RpcClient", "check_timeout", "connect"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from levity.addresses import Address
    from levity.transport.credentials import Credentials

    JsonObject = dict[str, Any]

# A restarted levityd is back within a second: try often at first, then without burning a processor.
FIRST_PAUSE_S = 0.010
LONGEST_PAUSE_S = 0.250
# A socket's timeout is a C int of milliseconds, 24 days.
TIMEOUT_LIMIT_S = 1_000_000.0


def connect(address: "Address", deadline: Deadline, credentials: "Credentials | None" = None) -> Connection:
    """Connect to the levityd at `address` and log in. No request is sent yet.

    Raises ServerUnreachable if no server listens there, ConnectionLost if it hung up, ServerTimeout, ProtocolError for
    a server that is no levityd or of another version, BadAddress, and AuthenticationError if one side is not who it
    should be.
    """
    if credentials is not None and credentials.tls:
        # Before connecting: it takes 30 ms, more on busy processors, and levityd waits only 1 s for TLS on loopback.
        import levity.transport.tls_login  # noqa: F401 - log_in() uses it
    connection = open_connection(address, deadline)
    try:
        if address.is_unix:
            connection.check_peer()
            connection.become_known(connection.greet("peer", deadline).params)
        else:
            from levity.transport.credentials import Credentials
            from levity.transport.token_login import log_in

            log_in(connection, credentials or Credentials(), deadline)
    except BaseException:
        connection.close()
        raise
    return connection


class Retry:
    """Decides whether a failed request is sent again, and waits before that.

    `ever_connected`: a levityd answered at this address once. Where none ever did, there is none to wait for.
    """

    def __init__(self, timeout_s: float, ever_connected: bool = False, clock: Clock = SYSTEM_CLOCK) -> None:
        self.ever_connected = ever_connected
        self._clock = clock
        self.renew(timeout_s)

    def __repr__(self) -> str:
        return f"<Retry {self.deadline!r}, {'connected before' if self.ever_connected else 'never connected'}>"

    def renew(self, timeout_s: float) -> None:
        """Start the time and the pauses anew: the request made progress."""
        self.deadline = Deadline(timeout_s, self._clock)
        self._pause_s = FIRST_PAUSE_S

    def wait(self, error: LevityError) -> None:
        """Block until the next try is due; raise the error if no levityd was ever there, or the time is over."""
        unreachable = isinstance(error, ServerUnreachable)
        if unreachable and not (self.ever_connected or isinstance(error, ConnectionLost)):
            raise error
        self.ever_connected = True
        # A try with no time left would only hide this error behind a timeout.
        if self.deadline.left() <= self._pause_s:
            raise type(error)(f"{error.message} (tried again for {self.deadline.timeout_s:g} s)") from error
        self._clock.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)


def check_timeout(timeout_s: float) -> float:
    """Return `timeout_s` if a request can take so long; InvalidRequest if not."""
    try:
        if 0 < timeout_s <= TIMEOUT_LIMIT_S:
            return float(timeout_s)
    except TypeError:
        pass
    raise InvalidRequest(
        f"a timeout of {timeout_s!r} s makes no sense; give a number over 0 up to {TIMEOUT_LIMIT_S:.0f}"
    )


class RpcClient:
    """Calls the methods of one levityd over one connection, which is made anew after a break."""

    def __init__(
        self,
        address: "Address",
        timeout_s: float,
        credentials: "Credentials | None" = None,
        *,
        ever_connected: bool = False,
    ) -> None:
        self.address = address
        self.timeout_s = check_timeout(timeout_s)
        self.credentials = credentials
        self.ever_connected = ever_connected  # a levityd answered here once
        self.clock = SYSTEM_CLOCK
        self._connection: Connection | None = None
        self._last_request = 0
        self._aborted = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address} {'connected' if self._connection else 'not connected'}>"

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def another(self) -> "RpcClient":
        """Return a second client of the same levityd, with its own connection."""
        client = RpcClient(self.address, self.timeout_s, self.credentials, ever_connected=self.ever_connected)
        client.clock = self.clock
        return client

    def abort(self) -> None:
        """Make a request of another thread fail with ConnectionLost, and every later request."""
        self._aborted = True
        if connection := self._connection:
            connection.abort()

    def call(self, method: str, params: "JsonObject | Callable[[], JsonObject]") -> "JsonObject":
        """Send a request, again after each break of the connection, and return its result or raise its error.

        `params` may be a function, which is called before each try.
        """
        retry = Retry(self.timeout_s, self.ever_connected, self.clock)
        while True:
            self._last_request += 1
            frame = request_frame(self._last_request, method, params() if callable(params) else params)
            if len(frame) > FRAME_LIMIT:
                # The server would hang up on such a request, and this client would send it again.
                raise NotExecutable(
                    f"the command is too long: {len(frame)} bytes with its environment; hosts take about 2 MiB"
                )
            try:
                return self._exchange(frame, retry)
            except (ServerUnreachable, Unavailable) as error:
                if self._aborted:
                    raise
                retry.wait(error)

    def _exchange(self, frame: bytes, retry: Retry) -> "JsonObject":
        if self._connection is None:
            self._connection = connect(self.address, retry.deadline, self.credentials)
        self.ever_connected = retry.ever_connected = True
        try:
            self._check_aborted()
            self._connection.send(frame, retry.deadline)
            reply = self._connection.receive_reply(self._last_request, retry.deadline)
        except BaseException:
            # After a timeout or Ctrl-C a reply may be under way: the next request must not take it for its own.
            self.close()
            raise
        if reply.error:
            raise reply.error
        return reply.result

    def _check_aborted(self) -> None:
        if self._aborted:
            raise ConnectionLost("it was told to stop")
