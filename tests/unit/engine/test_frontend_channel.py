"""The engine's end of the pipe to the front-end: nonsense changes nothing, and a broken stream ends it."""

import json
import os
import selectors
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from levity.errors import AuthenticationError, LevityError
from levity.protocol.frames import Frame, json_frame
from levity.protocol.messages import dump_object, request_body
from supervisor.engine.frontend_channel import FrontendChannel
from supervisor.engine.loop import Loop
from supervisor.engine.operations.request import EngineRequest
from supervisor.ipc.envelope import Envelope, envelope_decoder, envelope_frame, open_envelope

LIMIT_S = 10.0


class FakeLoop:
    """A loop that goes round when a test says so."""

    def __init__(self) -> None:
        self.call: Callable[[int], None] | None = None

    def watch(self, _fd: int, call: Callable[[int], None], _events: int = 0) -> None:
        self.call = call

    def forget(self, _fd: int) -> None:
        self.call = None


class Engine:
    """A channel, what came over it, and the front-end's end of it."""

    def __init__(self) -> None:
        ours, self.frontend = socket.socketpair()
        self.frontend.settimeout(LIMIT_S)
        self.loop = FakeLoop()
        self.requests: list[tuple[EngineRequest, str]] = []
        self.lost = 0
        self.unreadable: list[str] = []
        self.channel = FrontendChannel(
            cast(Loop, self.loop), ours.detach(), self._on_request, self._on_lost, self._on_unreadable
        )

    def _on_request(self, _channel: FrontendChannel, request: EngineRequest, fd: int) -> None:
        self.requests.append((request, name_of(fd) if fd >= 0 else ""))

    def _on_lost(self, _channel: FrontendChannel) -> None:
        self.lost += 1

    def _on_unreadable(self, error: LevityError) -> None:
        self.unreadable.append(error.message)

    def send(self, data: bytes, *names: str) -> None:
        """Have bytes arrive, and descriptors with the first of them."""
        fds = [named(name) for name in names]
        try:
            data = data[socket.send_fds(self.frontend, [data], fds) :]
            self.turn()
            while data:
                data = data[self.frontend.send(data) :]
                self.turn()
        except BrokenPipeError:
            pass  # It has hung up.
        for fd in fds:
            os.close(fd)

    def turn(self) -> None:
        if self.loop.call is not None:
            self.loop.call(selectors.EVENT_READ)

    def close(self) -> None:
        self.channel.close()
        self.frontend.close()


def named(text: str) -> int:
    fd = os.memfd_create(text)
    os.write(fd, text.encode())
    return fd


def name_of(fd: int) -> str:
    text = os.pread(fd, 100, 0).decode()
    os.close(fd)
    return text


@pytest.fixture
def engine() -> Iterator[Engine]:
    one = Engine()
    yield one
    one.close()


def request(number: int, method: str = "server.info", do: str = "pass", *, has_fd: bool = False) -> bytes:
    return envelope_frame(Envelope(do, number, request_body("c", method, {}), ticket="t"), has_fd=has_fd)


def test_a_request_is_the_envelopes_and_the_messages(engine: Engine) -> None:
    engine.send(request(5) + request(6, "tls.crl", "ask"))
    (first, _), (second, _) = engine.requests
    assert (first.number, first.id, first.method, first.ticket, first.is_clients) == (5, "c", "server.info", "t", True)
    assert (second.number, second.method, second.is_clients) == (6, "tls.crl", False)


def test_no_key_of_a_message_is_read_as_one_of_the_envelope(engine: Engine) -> None:
    words = {"ticket": "stolen", "auth": "stolen", "number": 9, "do": "ask", "fd": True}
    message = {"jsonrpc": "2.0", "id": 1, "method": "task.list", "params": words, **words}
    engine.send(envelope_frame(Envelope("pass", 5, dump_object(message))))
    ((only, fd),) = engine.requests
    assert (only.number, only.ticket, only.is_clients, fd) == (5, "", True, "")


# Nonsense


def frame_of(body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, 16) + body


heads = st.dictionaries(
    st.sampled_from(["do", "number", "ticket", "error", "x"]),
    st.sampled_from(["pass", "ask", "reply", "", "resize"]) | st.integers(-1, 3) | st.none() | st.just([]),
).map(lambda head: json.dumps(head).encode())
messages = st.one_of(
    st.binary(max_size=20),
    st.dictionaries(
        st.sampled_from(["jsonrpc", "id", "method", "params"]),
        st.sampled_from(["2.0", "server.info"]) | st.just({}) | st.just([]) | st.none(),
    ).map(lambda message: json.dumps(message).encode()),
)
bodies = st.one_of(
    st.binary(max_size=40),
    st.tuples(heads | st.binary(max_size=20), messages).map(
        lambda parts: struct.pack(">BI", 0, len(parts[0])) + parts[0] + parts[1]
    ),
)


def makes_sense(body: bytes) -> bool:
    try:
        EngineRequest.from_envelope(open_envelope(body))
    except LevityError:
        return False
    return True


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(bodies, max_size=4), st.booleans(), st.integers(1, 60))
def test_a_message_that_is_not_understood_changes_nothing(
    capfd: pytest.CaptureFixture[str], nonsense: list[bytes], has_fd: bool, piece: int
) -> None:
    assume(not any(makes_sense(body) for body in nonsense))
    engine = Engine()
    try:
        for body in nonsense:
            flagged = bytes((body[0] & 0xFE | has_fd, *body[1:])) if body else body
            engine.send(frame_of(flagged), *(["theirs"] if has_fd and body else []))
        data = request(1, has_fd=True) + request(2)
        engine.send(data[:piece], "mine")
        assert len(engine.requests) == (piece >= len(request(1)))
        engine.send(data[piece:])
        assert [(one.number, fd) for one, fd in engine.requests] == [(1, "mine"), (2, "")]
        assert (engine.lost, engine.unreadable) == (0, [])
    finally:
        engine.close()
    assert capfd.readouterr().err.count("ignored something") == bool(nonsense)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", bytes(5), b"\xff" * 5, json_frame(b"{}"), request(1) + struct.pack(">IB", 10, 17)],
    ids=["http", "no length", "too long", "a client's frame", "an unknown kind behind a good one"],
)
def test_a_stream_that_cannot_be_read_ends_it(engine: Engine, data: bytes) -> None:
    engine.send(data)
    assert len(engine.unreadable) == 1
    assert not engine.channel.is_open
    engine.send(request(2))
    assert [one.number for one, _fd in engine.requests] == [1] * data.startswith(request(1))
    assert engine.lost == 0


def test_descriptors_that_nothing_claims_end_it(engine: Engine) -> None:
    for number in range(200):
        engine.send(request(number), "x")
    assert "nothing is said of" in engine.unreadable[0]
    assert len(engine.requests) < 100


# Answers


def reply_of(engine: Engine) -> tuple[Envelope, Any]:
    decoder = envelope_decoder()
    while not isinstance(frame := decoder.next_frame(), Frame):
        decoder.feed(engine.frontend.recv(65536))
    envelope = open_envelope(frame.body)
    return envelope, json.loads(envelope.body)


def test_an_answer_has_the_clients_id_within_and_the_front_ends_number_outside(engine: Engine) -> None:
    engine.send(request(5))
    engine.channel.reply(engine.requests[0][0], {"x": 1})
    envelope, message = reply_of(engine)
    assert (envelope.do, envelope.number, envelope.error) == ("reply", 5, None)
    assert message == {"jsonrpc": "2.0", "id": "c", "result": {"x": 1}}
    engine.channel.reply(engine.requests[0][0], AuthenticationError("no"))
    envelope, message = reply_of(engine)
    assert (envelope.number, envelope.error) == (5, AuthenticationError.code)
    assert message["error"] == {"code": AuthenticationError.code, "message": "no"}


def test_the_end_of_the_front_end_is_told_once(engine: Engine) -> None:
    engine.frontend.close()
    engine.turn()
    engine.turn()
    assert (engine.lost, engine.unreadable, engine.channel.is_open) == (1, [], False)
    engine.channel.reply(EngineRequest("x", {}), {}, named("y"))
