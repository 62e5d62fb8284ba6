"""Log in over TCP: the client's side of the token proofs. Runs in: client. Owns: nothing.

The connection decides how both sides prove who they are, never a word of the server. Before the server has proved it,
the client sends a nonce and nothing else; to a server without the token the nonce is random.
"""

from levity.addresses import is_loopback
from levity.errors import AuthenticationError, LevityError, ProtocolError
from levity.protocol.frames import JSON
from levity.protocol.messages import Reply, parse_reply, request_frame
from levity.protocol.token_proof import NONCE_BYTES, client_proof, is_same, make_nonce, server_proof
from levity.transport.credentials import GIVEN

__all__ = ["Dialogue", "log_in"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from levity.addresses import Address
    from levity.protocol.frames import Frame
    from levity.transport.connection import Connection, Deadline
    from levity.transport.credentials import Credentials

    JsonObject = dict[str, Any]

_ID = 0
# How much is shown of the words of a server that has proved nothing.
_QUOTE_LIMIT = 200


def log_in(connection: "Connection", credentials: "Credentials", deadline: "Deadline") -> None:
    """Make both sides known to each other; AuthenticationError, ProtocolError, or the error that the server sends."""
    host, port = connection.peer_name()
    is_local = is_loopback(host)
    if credentials.tls or not is_local:
        from levity.transport.tls_login import start_tls  # it takes 30 ms

        binding = start_tls(connection, credentials, deadline)
        if credentials.certificate:
            connection.become_known(connection.greet("certificate", deadline).params)
            return
    else:
        from levity.channel_binding import endpoint_binding  # a TLS connection is bound to its certificate

        binding = endpoint_binding(host, port)
    hello = connection.greet("token", deadline)
    key, source = credentials.find_key(connection.address, is_local)
    dialogue = Dialogue(key, binding, _bytes_of(hello.params, "nonce"), connection.address, source)
    data = dialogue.begin()
    while data:
        connection.send(data, deadline)
        data = dialogue.receive(connection.receive(deadline))
    connection.become_known(dialogue.known)


class Dialogue:
    """The proofs of a token, without I/O: send what `begin` returns, then what `receive` returns, until that is b"".

    Then `known` is what the server tells of itself and of this client. `source` says in words where the token is from.
    """

    def __init__(self, key: bytes, binding: bytes, server_nonce: bytes, address: "Address", source: str) -> None:
        self.known: JsonObject = {}
        self._key = key
        self._binding = binding
        self._server_nonce = server_nonce
        self._client_nonce = make_nonce(key)
        self._address = address
        self._source = source
        self._is_server_known = False

    def __repr__(self) -> str:
        return f"<Dialogue with {self._address}: {'proved' if self._is_server_known else 'not proved'}>"

    def begin(self) -> bytes:
        """Return the first frame to send."""
        return request_frame(_ID, "auth.begin", {"nonce": self._client_nonce.hex()})

    def receive(self, frame: "Frame") -> bytes:
        """Take the server's next frame, and return the bytes to send now."""
        reply = self._reply(frame)
        if self._is_server_known:
            self.known = reply.result
            return b""
        proof = _bytes_of(reply.result, "proof")
        if not is_same(proof, server_proof(*self._proved())):
            raise AuthenticationError(
                f"what listens at {self._address} does not have {self._source}, or is not reached at its own address,"
                " on its own host, or by its certificate: something else listens there, or somebody is in between;"
                " nothing was sent to it. Check the address; if that is right,"
                f" `levity -a {self._address} login` stores another token"
            )
        self._is_server_known = True
        return request_frame(_ID, "auth.finish", {"proof": client_proof(*self._proved()).hex()})

    def _proved(self) -> tuple[bytes, bytes, bytes, bytes]:
        return self._key, self._server_nonce, self._client_nonce, self._binding

    def _reply(self, frame: "Frame") -> Reply:
        """Return the server's reply, or raise its error."""
        if frame.kind != JSON:
            raise ProtocolError(f"what listens at {self._address} sends output before it is known; check the address")
        reply = parse_reply(frame.body)
        if reply.error:
            raise self._refusal(reply.error)
        if reply.id != _ID or isinstance(reply.id, bool):
            raise ProtocolError(f"what listens at {self._address} answered what was not asked; check the address")
        return reply

    def _refusal(self, error: LevityError) -> LevityError:
        if not isinstance(error, AuthenticationError):
            return error
        # Only what happened: a server that has proved nothing gives no advice.
        why = error.message.partition(";")[0][:_QUOTE_LIMIT]
        return AuthenticationError(f"{self._address} does not take {self._source} ({why}){self._advice()}")

    def _advice(self) -> str:
        if self._source == GIVEN:
            return ""
        login = f"; `levity -a {self._address} login` stores another"
        return f"{login}, LEVITY_STATE_DIR names another state directory" if self._source.endswith("/token") else login


def _bytes_of(params: "JsonObject", name: str) -> bytes:
    """Return the 32 bytes of a nonce or a proof."""
    text = params.get(name)
    try:
        value = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        value = b""
    if len(value) != NONCE_BYTES:
        raise ProtocolError(f"what answers is no levityd: its {name} is none; check the address")
    return value
