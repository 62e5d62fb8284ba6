"""A connection to a real levityd without the manners of the client: whatever bytes a test likes. Owns: its socket."""

import json
import socket
from typing import Any, Self

from levity.channel_binding import endpoint_binding
from levity.protocol.frames import Frame, FrameDecoder
from levity.protocol.messages import request_frame
from levity.protocol.token_proof import client_proof, make_nonce, parse_token, server_proof
from tests.support.daemon import Daemon

__all__ = ["Raw"]

PATIENCE_S = 15.0


class Raw:
    """A plain connection, over TCP or a unix socket, `known` unless that is not wanted. `hello` is what came first."""

    def __init__(self, daemon: Daemon, *, known: bool = True, timeout_s: float = PATIENCE_S) -> None:
        self.sock = _connect(daemon.address or "", timeout_s)
        self._decoder = FrameDecoder()
        self.hello = self.reply()
        if known and self.hello.get("params", {}).get("auth") == "token":
            self.authenticate(parse_token(daemon.token_file.read_text()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def authenticate(self, key: bytes) -> None:
        """Do the client's part of the proofs, and check the server's."""
        server_nonce, client_nonce = bytes.fromhex(self.hello["params"]["nonce"]), make_nonce(key)
        host, port = self.sock.getpeername()[:2]
        talk = server_nonce, client_nonce, endpoint_binding(host, port)
        self.send(request_frame(0, "auth.begin", {"nonce": client_nonce.hex()}))
        assert self.reply()["result"]["proof"] == server_proof(key, *talk).hex()
        self.send(request_frame(0, "auth.finish", {"proof": client_proof(key, *talk).hex()}))
        assert "result" in self.reply()

    def reply(self) -> dict[str, Any]:
        """Return the next message; {} when the other side has closed."""
        while not isinstance(frame := self._decoder.next_frame(), Frame):
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return {}
            self._decoder.feed(data)
        message = json.loads(frame.body)
        assert isinstance(message, dict)
        return message

    def send(self, data: bytes) -> None:
        """Send bytes; a connection that is closed already is an answer, too."""
        try:
            self.sock.sendall(data)
        except OSError:
            pass

    def check_refused(self) -> None:
        """See that nothing but errors come, then the end."""
        while message := self.reply():
            assert "error" in message, message


def _connect(address: str, timeout_s: float) -> socket.socket:
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout_s)
        sock.connect(address.removeprefix("unix:"))
        return sock
    host, _colon, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout_s)
