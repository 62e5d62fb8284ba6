"""Find out who has connected, before anything of theirs is acted on. Runs in: front-end, a thread each. Owns: nothing.

The engine decides. Here the client's socket is shown to it, proofs are passed on, and TLS is spoken; all of it together
has one deadline. Whoever is not let in gets one refusal at most.
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
from supervisor.frontend.admission.server_tls import Secure
from supervisor.frontend.client_socket import Wire
from supervisor.frontend.engine_client import EngineLink
from supervisor.settings import Known
from supervisor.spool.records import JsonObject

__all__ = ["Caller", "Door", "StrangerError"]

# TLS and authentication together.
_DEADLINE_S = 10.0
# Whoever begins TLS does so at once.
_SILENCE_S = 1.0
_READ_SIZE = 16 * 1024


class Caller(NamedTuple):
    """A client that is known: the ticket that says so to the engine, its name and role for people."""

    ticket: str
    user: str
    role: str


class StrangerError(Exception):
    """Somebody was not let in. `is_failure`: because of what was shown, not for silence or for having gone away."""

    def __init__(self, reason: str, *, is_failure: bool) -> None:
        super().__init__(reason)
        self.is_failure = is_failure


class Door:
    """Lets clients in: `admit` returns who it is. `secure` is None where no TLS is spoken."""

    def __init__(self, known: Known, secure: Secure | None, link: EngineLink) -> None:
        self._known = known
        self._secure = secure
        self._link = link

    def __repr__(self) -> str:
        return f"<Door {self._known}{' in TLS' if self._secure else ''}>"

    def admit(self, wire: Wire, decoder: FrameDecoder, peer: str) -> Caller:
        """Let a client in; StrangerError if not, and nothing is owed to it any more.

        `wire` speaks TLS afterwards, if it is to; `decoder` holds what came behind the last frame.
        """
        visit = _Visit(wire, decoder, peer, self._link)
        try:
            crl_version = self._begin_tls(visit)
            found = self._know(visit, crl_version)
        except LevityError as error:
            visit.refuse(error)
            if isinstance(error, ProtocolError | HostError):  # What the engine refused it has noted itself.
                self._report(peer, error.message)
            is_failure = isinstance(error, ProtocolError | AuthenticationError)
            raise StrangerError(error.message, is_failure=is_failure) from None
        except OSError as error:
            is_late = isinstance(error, TimeoutError)
            reason = "not known in time" if is_late else _reason(error)
            # Whoever went away without a word may only have looked whether somebody listens here.
            has_left = isinstance(error, ConnectionError) or (self._secure is not None and self._secure.has_left(error))
            if not has_left:
                self._report(peer, reason)
            raise StrangerError(reason, is_failure=not has_left and not is_late) from None
        decoder.limit = FRAME_LIMIT
        return Caller(found["ticket"], found["user"], found["role"])

    def _report(self, peer: str, reason: str) -> None:
        self._link.tell("auth.rejected", {"peer": peer, "reason": reason})

    def _begin_tls(self, visit: "_Visit") -> str:
        """Return by which list of revoked certificates the client was judged."""
        if self._secure is None:
            visit.may_talk = True
            return ""
        if is_loopback(visit.wire.connection.getpeername()[0]) and not visit.wire.is_readable(_SILENCE_S):
            # Both would wait for the other to begin. From loopback, so nothing leaves the host in the clear.
            visit.may_talk = True
            self._report(visit.peer, "silent where TLS is spoken")
            raise AuthenticationError("this levityd speaks TLS with everybody: add --tls")
        refusal: LevityError | None = None
        try:
            context, crl_version = self._secure.judge(visit.left_s())
        except LevityError as error:
            # To be told in TLS.
            context, crl_version, refusal = self._secure.refusing(), "", error
        connection = visit.wire.secure(context, self._secure.not_now)
        connection.settimeout(visit.left_s())
        connection.do_handshake()
        visit.may_talk = True
        if refusal is not None:
            raise refusal
        return crl_version

    def _know(self, visit: "_Visit", crl_version: str) -> JsonObject:
        if self._known is Known.TOKEN:
            return self._by_token(visit)
        if self._known is Known.PEER:
            found = visit.ask("auth.peer", {}, enclosed=visit.wire.connection.fileno())
        else:
            assert self._secure is not None
            assert visit.wire.tls is not None
            found = visit.ask("auth.certificate", self._secure.client_facts(visit.wire.tls, crl_version))
        visit.greet(server=f"levityd/{__version__}", auth=self._known, user=found["user"], role=found["role"])
        return found

    def _by_token(self, visit: "_Visit") -> JsonObject:
        nonce = visit.ask("auth.nonce", {})["nonce"]
        visit.greet(server="levityd", auth=self._known, nonce=nonce)
        talk: JsonObject = {"server_nonce": nonce, "binding": self._binding(visit).hex()}
        begin = visit.request("auth.begin")
        talk["client_nonce"] = begin.params.get("nonce")
        visit.send(result_frame(begin.id, {"proof": visit.ask("auth.begin", talk)["proof"]}))
        finish = visit.request("auth.finish")
        found = visit.ask("auth.finish", talk | {"proof": finish.params.get("proof")})
        visit.send(result_frame(finish.id, {name: found[name] for name in ("server", "user", "role")}))
        return found

    def _binding(self, visit: "_Visit") -> bytes:
        if self._secure is not None:
            return self._secure.binding
        host, port = visit.wire.connection.getsockname()[:2]
        return endpoint_binding(host, port)


def _reason(error: OSError) -> str:
    """Return what was wrong: with a certificate ("certificate revoked"), with TLS, or with the connection."""
    of_tls = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    return str(of_tls or error.strerror or error)


class _Visit:
    """One stranger, until it is known: what it sends is bounded, and so is the time that it has."""

    def __init__(self, wire: Wire, decoder: FrameDecoder, peer: str, link: EngineLink) -> None:
        self.wire = wire
        self._decoder = decoder
        self.peer = peer
        self._link = link
        self._deadline = time.monotonic() + _DEADLINE_S
        self.may_talk = False  # Not before TLS is spoken: nothing goes out in the clear there.

    def left_s(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    def greet(self, **hello: object) -> None:
        self.send(notification_frame("hello", {"protocol": PROTOCOL_VERSION, **hello}))

    def send(self, frame: bytes) -> None:
        self.wire.connection.settimeout(self.left_s())
        self.wire.connection.sendall(frame)

    def request(self, method: str) -> Request:
        """Return the next request, which must be this one: a stranger can ask for nothing else."""
        while not isinstance(frame := self._decoder.next_frame(), Frame):
            self.wire.connection.settimeout(self.left_s())
            data = self.wire.connection.recv(_READ_SIZE)
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
        return self._link.call(method, params | {"peer": self.peer}, self.left_s(), enclosed=enclosed)

    def refuse(self, error: LevityError) -> None:
        try:
            if self.may_talk:
                self.send(error_frame(None, error))
        except OSError:
            pass  # It is gone, or takes nothing.
