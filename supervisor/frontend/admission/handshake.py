"""Find out who a client is, before any request of it is acted on. Runs in: front-end, a thread each. Owns: nothing.

The engine decides. The front-end shows the engine the client's socket, or passes proofs on, and speaks TLS. All of it
has one deadline. A client that is not let in gets one refusal at most.
"""

import time
from typing import NamedTuple

from levity.addresses import is_loopback
from levity.channel_binding import endpoint_binding
from levity.errors import AuthenticationError, HostError, LevityError, ProtocolError
from levity.protocol.frames import FRAME_LIMIT, Frame, FrameDecoder
from levity.protocol.messages import (
    PROTOCOL_VERSION,
    Request,
    error_frame,
    notification_frame,
    parse_request,
    result_frame,
)
from levity.version import __version__
from supervisor.frontend.admission.server_tls import ServerTls
from supervisor.frontend.client_socket import ClientSocket
from supervisor.frontend.engine_client import EngineClient
from supervisor.settings import Known
from supervisor.spool.records import JsonObject

__all__ = ["Caller", "Handshake", "NotAdmittedError"]

# TLS and authentication together.
_DEADLINE_S = 10.0
# A client that speaks TLS begins at once.
_SILENCE_S = 1.0
_READ_SIZE = 16 * 1024


class Caller(NamedTuple):
    """A client that is known: its ticket for the engine, and its user and role for people."""

    ticket: str
    user: str
    role: str


class NotAdmittedError(Exception):
    """A client was not let in. `is_failure`: it showed something wrong; it did not just stay silent or leave."""

    def __init__(self, reason: str, *, is_failure: bool) -> None:
        super().__init__(reason)
        self.is_failure = is_failure


class Handshake:
    """Lets clients in: `admit` returns the caller. `tls` is None where no TLS is spoken."""

    def __init__(self, known: Known, tls: ServerTls | None, engine: EngineClient) -> None:
        self._known = known
        self._tls = tls
        self._engine = engine

    def __repr__(self) -> str:
        return f"<Handshake {self._known}{' in TLS' if self._tls else ''}>"

    def admit(self, client: ClientSocket, decoder: FrameDecoder, peer: str) -> Caller:
        """Let a client in; NotAdmittedError if not, after the one refusal that it gets.

        `client` speaks TLS afterwards, where that is wanted; `decoder` holds the bytes behind the last frame.
        """
        newcomer = _Newcomer(client, decoder, peer, self._engine)
        try:
            crl_version = self._begin_tls(newcomer)
            found = self._know(newcomer, crl_version)
        except LevityError as error:
            newcomer.refuse(error)
            if isinstance(error, ProtocolError | HostError):  # The engine has audited its own refusals.
                self._report(peer, error.message)
            is_failure = isinstance(error, ProtocolError | AuthenticationError)
            raise NotAdmittedError(error.message, is_failure=is_failure) from None
        except OSError as error:
            is_late = isinstance(error, TimeoutError)
            reason = "not known in time" if is_late else _reason(error)
            # A peer that leaves without a word may only have looked whether levityd listens here.
            has_left = isinstance(error, ConnectionError) or (self._tls is not None and self._tls.has_left(error))
            if not has_left:
                self._report(peer, reason)
            raise NotAdmittedError(reason, is_failure=not has_left and not is_late) from None
        decoder.limit = FRAME_LIMIT
        return Caller(found["ticket"], found["user"], found["role"])

    def _report(self, peer: str, reason: str) -> None:
        self._engine.tell("auth.rejected", {"peer": peer, "reason": reason})

    def _begin_tls(self, newcomer: "_Newcomer") -> str:
        """Return by which list of revoked certificates the client was judged."""
        if self._tls is None:
            newcomer.may_talk = True
            return ""
        if is_loopback(newcomer.client.connection.getpeername()[0]) and not newcomer.client.is_readable(_SILENCE_S):
            # Each side would wait for the other to begin. From loopback, so nothing leaves the host in the clear.
            newcomer.may_talk = True
            self._report(newcomer.peer, "silent where TLS is spoken")
            raise AuthenticationError("this levityd speaks TLS with everybody: add --tls")
        refusal: LevityError | None = None
        try:
            context, crl_version = self._tls.judge(newcomer.left_s())
        except LevityError as error:
            # The client hears of it in TLS.
            context, crl_version, refusal = self._tls.refusing(), "", error
        connection = newcomer.client.secure(context, self._tls.not_now)
        connection.settimeout(newcomer.left_s())
        connection.do_handshake()
        newcomer.may_talk = True
        if refusal is not None:
            raise refusal
        return crl_version

    def _know(self, newcomer: "_Newcomer", crl_version: str) -> JsonObject:
        if self._known is Known.TOKEN:
            return self._by_token(newcomer)
        if self._known is Known.PEER:
            found = newcomer.ask("auth.peer", {}, enclosed=newcomer.client.connection.fileno())
        else:
            assert self._tls is not None
            assert newcomer.client.tls is not None
            found = newcomer.ask("auth.certificate", self._tls.client_facts(newcomer.client.tls, crl_version))
        newcomer.greet(server=f"levityd/{__version__}", auth=self._known, user=found["user"], role=found["role"])
        return found

    def _by_token(self, newcomer: "_Newcomer") -> JsonObject:
        nonce = newcomer.ask("auth.nonce", {})["nonce"]
        newcomer.greet(server="levityd", auth=self._known, nonce=nonce)
        talk: JsonObject = {"server_nonce": nonce, "binding": self._binding(newcomer).hex()}
        begin = newcomer.request("auth.begin")
        talk["client_nonce"] = begin.params.get("nonce")
        newcomer.send(result_frame(begin.id, {"proof": newcomer.ask("auth.begin", talk)["proof"]}))
        finish = newcomer.request("auth.finish")
        found = newcomer.ask("auth.finish", talk | {"proof": finish.params.get("proof")})
        newcomer.send(result_frame(finish.id, {name: found[name] for name in ("server", "user", "role")}))
        return found

    def _binding(self, newcomer: "_Newcomer") -> bytes:
        if self._tls is not None:
            return self._tls.binding
        host, port = newcomer.client.connection.getsockname()[:2]
        return endpoint_binding(host, port)


def _reason(error: OSError) -> str:
    """Return what was wrong: with a certificate ("certificate revoked"), with TLS, or with the connection."""
    of_tls = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    return str(of_tls or error.strerror or error)


class _Newcomer:
    """A client that is not known yet: what it sends is bounded, and so is its time."""

    def __init__(self, client: ClientSocket, decoder: FrameDecoder, peer: str, engine: EngineClient) -> None:
        self.client = client
        self._decoder = decoder
        self.peer = peer
        self._engine = engine
        self._deadline = time.monotonic() + _DEADLINE_S
        self.may_talk = False  # Not before TLS is spoken: nothing goes out in the clear there.

    def left_s(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    def greet(self, **hello: object) -> None:
        self.send(notification_frame("hello", {"protocol": PROTOCOL_VERSION, **hello}))

    def send(self, frame: bytes) -> None:
        self.client.connection.settimeout(self.left_s())
        self.client.connection.sendall(frame)

    def request(self, method: str) -> Request:
        """Return the next request, which has to be this one: an unauthenticated client can ask for nothing else."""
        while not isinstance(frame := self._decoder.next_frame(), Frame):
            self.client.connection.settimeout(self.left_s())
            data = self.client.connection.recv(_READ_SIZE)
            if not data:
                raise ConnectionResetError("went away")
            self._decoder.feed(data)
        try:
            request = parse_request(frame.body)
        except LevityError:
            raise ProtocolError("not levity's protocol: that is no request") from None
        if request.method != method:
            raise ProtocolError("this levityd wants to know first who asks; use a levity that can say so")
        return request

    def ask(self, method: str, params: JsonObject, enclosed: int = -1) -> JsonObject:
        return self._engine.call(method, params | {"peer": self.peer}, self.left_s(), enclosed=enclosed)

    def refuse(self, error: LevityError) -> None:
        try:
            if self.may_talk:
                self.send(error_frame(None, error))
        except OSError:
            pass  # The client is gone, or takes nothing.
