"""Targets that a fuzzer feeds with bytes, a function each. Runs in: contrib/fuzz/run.py, tests. Owns: nothing.

A target takes any bytes and raises only if something is wrong with levity.
"""

import os
import socket
from collections.abc import Callable
from typing import Any

from levity.errors import AuthenticationError, InvalidRequest, ProtocolError
from levity.protocol.frames import FRAME_LIMIT, NEED_DATA, UNAUTHENTICATED_FRAME_LIMIT, Frame, FrameDecoder
from levity.protocol.messages import parse_request
from supervisor.engine.operations.request import EngineRequest
from supervisor.frontend.admission.handshake import Handshake, NotAdmittedError
from supervisor.frontend.client_socket import ClientSocket
from supervisor.frontend.engine_client import EngineClient
from supervisor.ipc.envelope import Envelope, carries_descriptor, envelope_frame, open_envelope
from supervisor.ipc.frame_pipe import Pipe
from supervisor.settings import Known

__all__ = ["TARGETS", "FakeEngineClient", "decode", "envelopes", "handshake", "pipe"]

# What the kernel takes of a socket's bytes without a reader, with a margin.
_AT_ONCE = 32 * 1024
_UNAUTHENTICATED_METHODS = {"auth.nonce", "auth.begin", "auth.finish", "auth.rejected"}


def decode(data: bytes) -> None:
    """The frame decoder: the same frames whole and byte by byte, never more held than was fed."""
    whole, error = _frames([data])
    pieces, other = _frames([data[i : i + 1] for i in range(len(data))])
    assert pieces == whole, "pieces make other frames than the whole"
    assert other == error, "pieces break where the whole does not"
    for frame in whole:
        try:
            parse_request(frame.body)
        except (ProtocolError, InvalidRequest):
            pass


def _frames(chunks: list[bytes]) -> tuple[list[Frame], str]:
    decoder, found, fed = FrameDecoder(UNAUTHENTICATED_FRAME_LIMIT), list[Frame](), 0
    for chunk in chunks:
        decoder.feed(chunk)
        fed += len(chunk)
        try:
            while isinstance(frame := decoder.next_frame(), Frame):
                found.append(frame)
        except ProtocolError as error:
            assert not decoder.pending
            return found, error.message
        assert frame is NEED_DATA
        assert decoder.pending <= fed
    return found, ""


class FakeEngineClient(EngineClient):
    """An engine that knows nobody, or everybody where `proof` is what is shown; `asked` is what it was asked."""

    def __init__(self, proof: str | None = None) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._proof = proof

    def call(self, method: str, params: Any, *_rest: object, **_more: object) -> dict[str, Any]:
        """Answer as the engine would."""
        self.asked.append((method, params))
        if method == "auth.nonce":
            return {"nonce": "00" * 32}
        if self._proof is None or params.get("proof", self._proof) != self._proof:
            raise AuthenticationError("levityd does not know this token")
        return {"proof": "00", "ticket": "t", "user": "alice", "role": "user", "server": "levityd"}

    def tell(self, method: str, params: Any, **_more: object) -> None:
        """Note the request."""
        self.asked.append((method, params))


def handshake(data: bytes, proof: str | None = None) -> bool:
    """The handshake with a client that sends these bytes: one refusal, no other call; whether the client got in."""
    ours, theirs = socket.socketpair()
    engine, decoder = FakeEngineClient(proof), FrameDecoder(UNAUTHENTICATED_FRAME_LIMIT)
    client = ClientSocket(_Named(fileno=ours.detach()))
    with theirs:
        theirs.sendall(data[:_AT_ONCE])
        theirs.shutdown(socket.SHUT_WR)
        try:
            caller = Handshake(Known.TOKEN, None, engine).admit(client, decoder, "peer")
        except NotAdmittedError:
            caller = None
        client.close()
        _check_answers(theirs, is_in=caller is not None)
    assert {method for method, _params in engine.asked} <= _UNAUTHENTICATED_METHODS, engine.asked
    if caller is None:
        assert decoder.limit == UNAUTHENTICATED_FRAME_LIMIT
        assert decoder.pending <= _AT_ONCE
        return False
    assert [method for method, _params in engine.asked] == ["auth.nonce", "auth.begin", "auth.finish"]
    assert decoder.limit == FRAME_LIMIT
    return True


class _Named(socket.socket):
    """A socket with an address of TCP, to which proofs are bound."""

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 1


def _check_answers(theirs: socket.socket, *, is_in: bool) -> None:
    answers, decoder = [], FrameDecoder(UNAUTHENTICATED_FRAME_LIMIT)
    theirs.settimeout(10)
    try:
        while data := theirs.recv(65536):
            decoder.feed(data)
    except ConnectionResetError:
        pass  # The handshake did not read all that was sent.
    while isinstance(frame := decoder.next_frame(), Frame):
        answers.append(frame.body)
    refusals = [body for body in answers if b'"error"' in body]
    assert len(refusals) <= (not is_in), answers
    assert not refusals or answers[-1] is refusals[0]


def envelopes(data: bytes) -> None:
    """What front-end and engine send each other: an envelope that goes out as it came in, or one that is refused."""
    carries_descriptor(data)
    try:
        envelope = open_envelope(data)
    except ProtocolError:
        return
    again = open_envelope(envelope_frame(envelope)[5:])
    for name in Envelope.__slots__:
        assert getattr(again, name) == getattr(envelope, name), name
    try:
        EngineRequest.from_envelope(envelope)
    except (ProtocolError, InvalidRequest):
        pass


def pipe(data: bytes) -> None:
    """The pipe between front-end and engine: bytes in pieces, with a descriptor here and there.

    The first byte of each piece says how long it is and whether one comes with it.
    """
    ours, theirs = socket.socketpair()
    end = Pipe(ours.detach())
    held = len(os.listdir("/proc/self/fd"))
    received, sent, count = b"", b"", 0
    with theirs:
        try:
            while data and len(sent) < _AT_ONCE:
                length, with_fd = (data[0] >> 1) + 1, data[0] & 1
                piece, data = data[1 : 1 + length], data[1 + length :]
                if piece:
                    socket.send_fds(theirs, [piece], [theirs.fileno()] * with_fd)
                    sent, count = sent + piece, count + with_fd
                    received += _receive(end)
            assert received == sent, "bytes are lost or made up"
            for _ in range(count):
                fd = end.take_descriptor()
                assert fd >= 0, "a descriptor is lost"
                os.close(fd)
            assert end.take_descriptor() == -1
        except ProtocolError:
            assert count > 64, "refused without need"
        finally:
            end.close()
    assert len(os.listdir("/proc/self/fd")) == held - 2, "descriptors are left open"


def _receive(end: Pipe) -> bytes:
    got = b""
    try:
        while True:
            got += end.receive()
    except BlockingIOError:
        return got


TARGETS: dict[str, Callable[[bytes], object]] = {
    "frames": decode,
    "handshake": handshake,
    "envelopes": envelopes,
    "pipe": pipe,
}
