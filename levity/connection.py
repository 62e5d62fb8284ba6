"""One connection to a levityd: made, greeted, frames out and in. Runs in: client. Owns: a socket. Never: tries again.

Every call that can block takes a deadline. What goes wrong below (OSError, gaierror, a closed connection) becomes one
of levity's errors here and nowhere else.
"""

# Not `socket`: it loads selectors and turns every constant into an enum, a fifth of what `levity query` may take.
import _socket
import os

from levity.errors import BadAddress, InvalidRequest, ProtocolError, ServerTimeout, ServerUnreachable
from levity.patience import ConnectionLost, Deadline
from levity.protocol.frames import FRAME_LIMIT, JSON, STRANGER_FRAME_LIMIT, Frame, FrameDecoder
from levity.protocol.messages import PROTOCOL_VERSION, Reply, Request, parse_answer, parse_reply, parse_request

__all__ = ["HEARTBEAT", "Connection", "check_reply", "connect"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from levity.addresses import Address

    # What connect(2) needs: address family and socket address.
    Target = tuple[int, object]

# The notification that says nothing but that the server lives.
HEARTBEAT = "heartbeat"

# Large enough that a frame of output takes few calls. A larger buffer is given back to the system each time and comes
# anew, a page fault for every 4 KiB, which costs more than the calls that it saves.
RECEIVE_BYTES = 128 * 1024


class Connection:
    """A connected socket to a levityd that has greeted as one.

    `server` is the name and version it gave, `nonce` its random value for this connection.
    """

    def __init__(self, sock: _socket.socket, address: "Address") -> None:
        self.address = address
        self.server = ""
        self.nonce = ""
        self._socket = sock
        # Nobody is to make us hold much before we know that it is a levityd.
        self._decoder = FrameDecoder(STRANGER_FRAME_LIMIT)

    def __repr__(self) -> str:
        return f"<Connection {self.address} {self.server or 'not greeted'}>"

    def close(self) -> None:
        """Close the socket; a second time does nothing."""
        self._socket.close()

    def greet(self, deadline: Deadline) -> None:
        """Wait for the greeting and check it: ServerTimeout, ConnectionLost or ProtocolError if it is none of ours."""
        try:
            hello = _parse_hello(self.receive(deadline))
        except ProtocolError as error:
            raise ProtocolError(f"what answers at {self.address} is no levityd ({error}); check the address") from error
        except ServerTimeout:
            raise ServerTimeout(
                f"no levityd greeted at {self.address} within {deadline.timeout_s:g} s; it is stopped or overloaded,"
                " or something else listens there"
            ) from None
        self.server = str(hello.params.get("server", "?"))
        self.nonce = str(hello.params.get("nonce", ""))
        if (version := hello.params.get("protocol")) != PROTOCOL_VERSION:
            raise ProtocolError(
                f"{self.server} at {self.address} speaks version {version!r} of the protocol, this client version"
                f" {PROTOCOL_VERSION}; install the levity that matches"
            )
        self._decoder.limit = FRAME_LIMIT

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send all of `data`."""
        try:
            self._bound(deadline)
            self._socket.sendall(data)
        except TimeoutError:
            raise self._timed_out(deadline) from None
        except OSError as error:
            raise self._lost(error) from error

    def receive(self, deadline: Deadline) -> Frame:
        """Return the next frame."""
        while True:
            frame = self._decoder.next_frame()
            if isinstance(frame, Frame):
                return frame
            self._decoder.feed(self.receive_bytes(deadline))

    def receive_reply(self, id: int, deadline: Deadline) -> Reply:
        """Return the reply to request `id`; ProtocolError if anything else comes.

        Notifications are skipped, and every heartbeat renews the deadline: the server lives, and is at it.
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
        """Make it break, also for another thread that waits in it: that one is to close it."""
        try:
            self._socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # It is broken or closed already.

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def take_rest(self) -> bytes:
        """Return what came after the last frame that was received."""
        return self._decoder.take_rest()

    def receive_bytes(self, deadline: Deadline) -> bytes:
        """Return the next bytes as they come, at least one; for a caller who cuts them into frames himself."""
        try:
            self._bound(deadline)
            chunk = self._socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            raise self._timed_out(deadline) from None
        except OSError as error:
            raise self._lost(error) from error
        if not chunk:
            raise self._lost(None)
        return chunk

    def _bound(self, deadline: Deadline) -> None:
        left = deadline.left()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def _timed_out(self, deadline: Deadline) -> ServerTimeout:
        return ServerTimeout(
            f"levityd at {self.address} did not answer within {deadline.timeout_s:g} s; it is stopped or overloaded:"
            " try again, or wait longer (-t SECONDS)"
        )

    def _lost(self, error: OSError | None) -> ConnectionLost:
        why = _reason(error) if error else "closed by the other side"
        whom = "levityd" if self.server else "what listens"
        return ConnectionLost(f"the connection to {whom} at {self.address} broke ({why}); see what its log says")


def check_reply(reply: Reply, id: int) -> Reply:
    """Return the reply if it is one to request `id`, else ProtocolError."""
    # An error without an id answers a request that the server could not read so far (JSON-RPC 2.0, section 5).
    if reply.id != id and not (reply.id is None and reply.error):
        raise ProtocolError(f"levityd answered request {reply.id!r}, but {id} was asked")
    return reply


def connect(address: "Address", deadline: Deadline) -> Connection:
    """Connect to the levityd at `address` and check its greeting.

    Raises ServerUnreachable when nobody listens there, ConnectionLost when somebody did but hung up, ServerTimeout,
    ProtocolError when it is no levityd or one of another version, and BadAddress.
    """
    connection = Connection(_connect_any(address, deadline), address)
    try:
        connection.greet(deadline)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_any(address: "Address", deadline: Deadline) -> _socket.socket:
    """Connect to the first of the host's addresses that accepts."""
    targets = _targets(address)
    for position, target in enumerate(targets):
        # A first address that swallows packets leaves the others their share of the time.
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
    # As bytes where possible: for a str the C code loads the IDNA codec, 5 ms.
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
        # unix(7): the backlog is full. Somebody listens, but does not accept at the moment.
        return ConnectionLost(f"levityd at {address} accepts no connection at the moment ({why})")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return ServerUnreachable(
            f"no levityd listens at {address} ({why}); start one there, or name another address (-a, $LEVITY_ADDR)"
        )
    if isinstance(error, ConnectionError):
        return ConnectionLost(f"the connection to {address} broke ({why})")
    return ServerUnreachable(f"cannot connect to {address} ({why}); check the address and who may use it")


def _parse_hello(frame: Frame) -> Request:
    """Return the server's greeting, or raise the error that it greets with."""
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


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
