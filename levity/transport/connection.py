"""One connection to a levityd: connect, greet, send and receive frames. Runs in: client. Owns: a socket.

Never: tries again. At a unix socket the kernel tells who answers; over TCP token_login and tls_login find out.

Every call that can block takes a deadline. Failures of the system (OSError, gaierror, a closed connection) become
errors of levity here and nowhere else.
"""

# Not `socket`, which loads selectors and makes an enum of every constant: a fifth of the time of `levity query`.
import _socket
import os
import sys
from time import monotonic, sleep

from levity.errors import (
    AuthenticationError,
    BadAddress,
    ConnectionLost,
    InvalidRequest,
    LevityError,
    ProtocolError,
    ServerTimeout,
    ServerUnreachable,
)
from levity.protocol.frames import FRAME_LIMIT, JSON, UNAUTHENTICATED_FRAME_LIMIT, Frame, FrameDecoder
from levity.protocol.messages import PROTOCOL_VERSION, Reply, Request, parse_answer, parse_reply, parse_request

__all__ = ["HEARTBEAT", "SYSTEM_CLOCK", "Clock", "Connection", "Deadline", "check_reply", "open_connection"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from levity.addresses import Address

    JsonObject = dict[str, Any]
    Result = TypeVar("Result")
    Socket = TypeVar("Socket", bound=_socket.socket)
    # What connect(2) needs: address family and socket address.
    Target = tuple[int, object]

# The notification that the server lives; it has no parameters.
HEARTBEAT = "heartbeat"

# So large that a frame of output takes few calls. A larger buffer goes back to the system after each call and comes
# anew, a page fault for every 4 KiB: that costs more than the calls that it saves.
RECEIVE_BYTES = 128 * 1024

# A levityd that speaks TLS waits ten seconds for the client to begin, then hangs up. So a connection that ends after a
# silence of this length is not tried again.
SILENCE_S = 5.0
# The kind of authentication of a levityd without users.
_NONE = "none"


class Clock:
    """Monotonic time in seconds, and a pause in it. Tests have their own."""

    __slots__ = ()

    def now(self) -> float:
        """Return the present time."""
        return monotonic()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        sleep(seconds)


SYSTEM_CLOCK = Clock()


class Deadline:
    """The moment at which `timeout_s` seconds from now are over."""

    __slots__ = ("_at", "_clock", "timeout_s")

    def __init__(self, timeout_s: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self.renew()

    def __repr__(self) -> str:
        return f"<Deadline in {self.left():.3f} of {self.timeout_s:g} s>"

    def renew(self) -> None:
        """Start the time anew: a sign of life came."""
        self._at = self._clock.now() + self.timeout_s

    def left(self) -> float:
        """Return the seconds that are left, zero or less once the time is over."""
        return self._at - self._clock.now()


class Connection:
    """A connected socket to a levityd. After rpc.connect() both sides know each other.

    `server` is the levityd's name and version, `user` and `role` are whom it takes this client for ("" without users).
    """

    def __init__(self, sock: _socket.socket, address: "Address") -> None:
        self.address = address
        self.server = self.user = self.role = ""
        self._socket = sock
        self._explain: Callable[[OSError], LevityError | None] = lambda _error: None
        # Hold little for a peer that has not proved who it is.
        self._decoder = FrameDecoder(UNAUTHENTICATED_FRAME_LIMIT)

    def __repr__(self) -> str:
        return f"<Connection {self.address} {self.server or 'not known'}>"

    def close(self) -> None:
        """Close the socket; a second time does nothing."""
        self._socket.close()

    def peer_name(self) -> tuple[str, int]:
        """Return the server's IP address and port."""
        try:
            host, port = self._socket.getpeername()[:2]
        except OSError as error:
            raise self._lost(error) from error
        return host, port

    def check_peer(self) -> None:
        """Check that root or this client's user listens at the unix socket; AuthenticationError for another user."""
        # SO_PEERCRED (unix(7)): pid, uid and gid of the process that called listen(2).
        credentials = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        uid = int.from_bytes(credentials[4:8], sys.byteorder)
        if uid not in (0, os.geteuid()):
            raise AuthenticationError(_other_user(self.address, uid))

    def wrap(
        self, wrap: "Callable[[_socket.socket], Socket]", explain: "Callable[[OSError], LevityError | None]"
    ) -> "Socket":
        """Go on with the socket that `wrap` makes of this one; `explain` makes levity's errors of that socket's own."""
        try:
            sock = wrap(self._socket)
        except OSError as error:
            # ssl looks at the socket, and finds that the connection was reset.
            raise self._lost(error) from error
        self._socket = sock
        self._explain = explain
        return sock

    def greet(self, auth: str, deadline: Deadline) -> Request:
        """Wait for the greeting and return it.

        ServerTimeout, ConnectionLost or ProtocolError if none comes, AuthenticationError if the server authenticates in
        another way than `auth`.
        """
        before = deadline.left()
        hint = "" if self.address.is_unix or self._is_tls() else ", or it speaks TLS (--tls)"
        try:
            hello = _parse_hello(self.receive(deadline))
        except ProtocolError as error:
            raise ProtocolError(
                f"what answers at {self.address} is no levityd ({error}){hint}; check the address"
            ) from error
        except (ServerTimeout, ConnectionLost) as error:
            # With no time left: all of the given time, though some of it went by before.
            waited_s = before - deadline.left() if deadline.left() > 0 else deadline.timeout_s
            if isinstance(error, ConnectionLost) and (waited_s < SILENCE_S or self._decoder.pending):
                raise
            raise ServerTimeout(
                f"no levityd greeted at {self.address} within {waited_s:.3g} s; it is stopped"
                f" or overloaded, or something else listens there{hint}"
            ) from None
        if (version := hello.params.get("protocol")) != PROTOCOL_VERSION:
            raise ProtocolError(
                f"what listens at {self.address} speaks version {version!r} of the protocol, this client version"
                f" {PROTOCOL_VERSION}; install the levity that matches"
            )
        if (offered := hello.params.get("auth", _NONE)) != auth and not (offered == _NONE and self.address.is_unix):
            raise AuthenticationError(_other_way(self.address, auth, offered))
        return hello

    def become_known(self, known: "JsonObject") -> None:
        """Note what the server tells of itself and of this client: both sides know each other now."""
        self.server, self.user, self.role = (_word(known, name) for name in ("server", "user", "role"))
        self.server = self.server or "levityd"
        self._decoder.limit = FRAME_LIMIT

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send all of `data`."""
        rest = memoryview(data)
        while rest:
            # A TLS socket's sendall() would give every 16 KiB the whole time anew.
            rest = rest[self.bounded(deadline, lambda: self._socket.send(rest)) :]  # noqa: B023 - called at once

    def receive(self, deadline: Deadline) -> Frame:
        """Return the next frame."""
        while True:
            frame = self._decoder.next_frame()
            if isinstance(frame, Frame):
                return frame
            self._decoder.feed(self.receive_bytes(deadline))

    def receive_reply(self, id: int, deadline: Deadline) -> Reply:
        """Return the reply to request `id`; ProtocolError for output or another reply.

        Notifications are skipped. A heartbeat renews the deadline: the server lives, and works on the request.
        """
        while True:
            frame = self.receive(deadline)
            if frame.kind != JSON:
                raise ProtocolError("levityd sent output that nobody asked for")
            message = parse_answer(frame.body)
            if isinstance(message, Reply):
                return check_reply(message, id)
            if message.method == HEARTBEAT:
                deadline.renew()

    def abort(self) -> None:
        """Break the connection, from any thread; the thread that uses the connection closes it."""
        try:
            # Not the shutdown() of a TLS socket, which would read and write plain bytes from then on.
            _socket.socket.shutdown(self._socket, _socket.SHUT_RDWR)
        except OSError:
            pass  # The connection is broken or closed already.

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def has_pending(self) -> bool:
        """Whether decrypted bytes wait to be received: poll(2) does not tell of these."""
        return self._is_tls() and self._socket.pending() > 0  # type: ignore[attr-defined]

    def take_rest(self) -> bytes:
        """Return the bytes that came after the last received frame."""
        return self._decoder.take_rest()

    def receive_bytes(self, deadline: Deadline) -> bytes:
        """Return the next bytes as they come, at least one; for a caller with a decoder of its own."""
        chunk = self.bounded(deadline, lambda: self._socket.recv(RECEIVE_BYTES))
        if not chunk:
            raise self._lost(None)
        return chunk

    def bounded(self, deadline: Deadline, act: "Callable[[], Result]") -> "Result":
        """Call `act`, which may block on the socket, within the deadline; its failure becomes an error of levity."""
        left = deadline.left()
        if left <= 0:
            raise self._timed_out(deadline)
        try:
            self._socket.settimeout(left)
            return act()
        except TimeoutError:
            raise self._timed_out(deadline) from None
        except OSError as error:
            raise self._explain(error) or self._lost(error) from error

    def _is_tls(self) -> bool:
        return hasattr(self._socket, "pending")

    def _timed_out(self, deadline: Deadline) -> ServerTimeout:
        return ServerTimeout(
            f"levityd at {self.address} did not answer within {deadline.timeout_s:g} s; it is stopped or overloaded:"
            " try again, or wait longer (-t SECONDS)"
        )

    def _lost(self, error: OSError | None) -> ConnectionLost:
        why = _reason(error) if error else "closed by the other side"
        whom = "levityd" if self.server else "what listens"
        what_next = "see what its log says"
        if not self.server and not self.address.is_unix:
            what_next += ", or wait a minute: it hangs up where too many attempts have failed"
        return ConnectionLost(f"the connection to {whom} at {self.address} broke ({why}); {what_next}")


def check_reply(reply: Reply, id: int) -> Reply:
    """Return the reply if it is to request `id`, else raise ProtocolError."""
    # An error without an id: the server could not read the request's id (JSON-RPC 2.0, section 5).
    if reply.id != id and not (reply.id is None and reply.error):
        raise ProtocolError(f"levityd answered request {reply.id!r}, but {id} was asked")
    return reply


def open_connection(address: "Address", deadline: Deadline) -> Connection:
    """Connect a socket to `address`; neither side knows the other yet."""
    return Connection(_connect_any(address, deadline), address)


def _connect_any(address: "Address", deadline: Deadline) -> _socket.socket:
    """Connect to the first of the host's addresses that accepts."""
    targets = _targets(address)
    for position, target in enumerate(targets):
        # Each address has its share of the time: the first may swallow packets.
        share_s = deadline.left() / (len(targets) - position)
        try:
            return _connect_one(target, max(share_s, 0.001))
        except OSError as error:
            failure = error
    raise _connect_error(address, failure, deadline) from failure


def _connect_one(target: "Target", timeout_s: float) -> _socket.socket:
    family, where = target
    sock = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(where)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


def _targets(address: "Address") -> "list[Target]":
    if address.is_unix:
        return [(_socket.AF_UNIX, os.fsencode(address.path))]
    if "\0" in address.host:
        raise BadAddress(f"address {str(address)!r}: a host name holds no NUL")
    # As bytes where possible: for a str the C code loads the IDNA codec, which takes 5 ms.
    host = address.host.encode() if address.host.isascii() else address.host
    try:
        found = _socket.getaddrinfo(host, address.port, 0, _socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = _reason(error) if isinstance(error, OSError) else str(error)
        raise ServerUnreachable(f"the host {address.host!r} is not known ({why}); check the address") from error
    return [(family, where) for family, _, _, _, where in found]


def _connect_error(address: "Address", error: OSError, deadline: Deadline) -> ServerUnreachable | ServerTimeout:
    why = _reason(error)
    if isinstance(error, TimeoutError):
        return ServerTimeout(
            f"no connection to {address} within {deadline.timeout_s:g} s; check the address and the network"
        )
    if isinstance(error, BlockingIOError):
        # unix(7): the backlog is full. A levityd listens, but does not accept at the moment.
        return ConnectionLost(f"levityd at {address} accepts no connection at the moment ({why})")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return ServerUnreachable(
            f"no levityd listens at {address} ({why}); start one there, or name another address (-a, $LEVITY_ADDR)"
        )
    if isinstance(error, ConnectionError):
        return ConnectionLost(f"the connection to {address} broke ({why})")
    return ServerUnreachable(f"cannot connect to {address} ({why}); check the address and who may use it")


def _parse_hello(frame: Frame) -> Request:
    """Return the greeting in a frame, or raise the error that the server sent in its place."""
    if frame.kind != JSON:
        raise ProtocolError("output comes before the greeting")
    try:
        hello = parse_request(frame.body)
    except InvalidRequest:
        reply = parse_reply(frame.body)
        raise reply.error or ProtocolError("the greeting is missing") from None
    if hello.method != "hello" or hello.id is not None:
        raise ProtocolError("the greeting is missing")
    return hello


def _word(params: "JsonObject", name: str) -> str:
    text = params.get(name)
    return text[:100] if isinstance(text, str) else ""


def _other_user(address: "Address", uid: int) -> str:
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"{address} is answered by uid {uid}, neither root nor you; nothing was sent: check the address"
    return (
        f"{address} is answered by user {name}, neither root nor you; nothing was sent. If that is who you mean, ask as"
        f" that user: runuser -u {name} -- levity ..."
    )


def _other_way(address: "Address", auth: str, offered: object) -> str:
    """Return the message for a greeting that does not fit the address; nothing was sent to that server."""
    if auth == "certificate" and offered == "token":
        return f"{address} knows its users by tokens: leave the certificate out (-c, -k, LEVITY_CLIENT_CERT)"
    if offered == _NONE:
        return (
            f"what listens at {address} does not show that it is a levityd you may trust: it is older than this client,"
            " or something else; nothing was sent. Restart levityd with the levity that is installed here"
        )
    return (
        f"what listens at {address} greets with {str(offered)[:40]!r} where {auth!r} is to be: it is not reached as it"
        " expects, or something else listens there; nothing was sent. Check the address"
    )


def _reason(error: OSError) -> str:
    # An SSLError's message names C source files; its `reason` says all that matters.
    if reason := getattr(error, "reason", None):
        return str(reason).lower().replace("_", " ")
    return error.strerror or str(error) or type(error).__name__
