"""The client's dialogue of proofs, with any frames: no request goes out before the right proof. Runs in: pytest."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levity import Client
from levity.addresses import Address
from levity.channel_binding import endpoint_binding
from levity.errors import AuthenticationError, LevityError
from levity.protocol.frames import JSON, NEED_DATA, STDOUT, Frame, FrameDecoder, json_frame
from levity.protocol.messages import dump_object, notification_frame, result_frame
from levity.protocol.token_proof import client_proof, server_proof
from levity.transport.token_login import Dialogue
from tests.support.fake_server import FakeServer, Peer, methods, requests_in

TIMEOUT_S = 20.0
KEY = b"k" * 32
HEX = bytes(32).hex()


def ask(server: FakeServer, timeout_s: float = TIMEOUT_S) -> None:
    with Client(server.address, timeout_s, token_file=server.token_file) as client:
        client.query("3f2a")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.text(max_size=5) | st.just(HEX) | st.just("00" * 31),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "jsonrpc", "result", "error", "method", "params", "proof", "code", "message"]), inner
        )
    ),
    max_leaves=12,
)
_MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | _JSON,
        "id": st.sampled_from([0, 1, None, False, "0"]),
        "result": st.fixed_dictionaries({}, optional={"proof": st.just(HEX) | _JSON}) | _JSON,
        "error": st.fixed_dictionaries({"code": st.integers(-5, 45), "message": st.text(max_size=5)}) | _JSON,
        "method": st.sampled_from(["hello", "auth.begin", "heartbeat"]) | _JSON,
    },
)
FRAMES = st.one_of(
    st.binary(max_size=80).map(lambda body: Frame(JSON, body)),
    _MESSAGES.map(lambda value: Frame(JSON, dump_object(value))),
    st.binary(max_size=20).map(lambda body: Frame(STDOUT, body, 1)),
)
ADDRESS = Address("127.0.0.1", 4321)
BINDING = endpoint_binding("127.0.0.1", 4321)


@given(st.lists(FRAMES, max_size=4))
def test_no_frames_make_the_client_go_on_but_the_proof(frames: list[Frame]) -> None:
    dialogue = Dialogue(KEY, BINDING, bytes(32), ADDRESS, "the token")
    assert methods(dialogue.begin()) == ["auth.begin"]
    for frame in frames:
        try:
            sent = dialogue.receive(frame)
        except LevityError:
            continue
        raise AssertionError(f"{frame} led to {sent!r}")
    assert dialogue.known == {}


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), FRAMES)
def test_the_proof_and_nothing_else_makes_it_go_on(key: bytes, server_nonce: bytes, after: Frame) -> None:
    dialogue = Dialogue(key, BINDING, server_nonce, ADDRESS, "the token")
    (begin,) = requests_in(dialogue.begin())
    nonce = bytes.fromhex(begin["nonce"])
    for wrong in (
        server_proof(key, server_nonce, nonce, endpoint_binding("127.0.0.1", 4322)),
        server_proof(bytes(32) if key != bytes(32) else KEY, server_nonce, nonce, BINDING),
        client_proof(key, server_nonce, nonce, BINDING),
        server_proof(key, nonce, server_nonce, BINDING) if nonce != server_nonce else bytes(32),
    ):
        with pytest.raises(AuthenticationError):
            dialogue.receive(proof_frame(wrong))
    (finish,) = requests_in(dialogue.receive(proof_frame(server_proof(key, server_nonce, nonce, BINDING))))
    assert finish == {"proof": client_proof(key, server_nonce, nonce, BINDING).hex()}
    try:
        assert dialogue.receive(after) == b""
    except LevityError:
        assert dialogue.known == {}


def proof_frame(proof: bytes) -> Frame:
    return decoded(result_frame(0, {"proof": proof.hex()}))


def decoded(data: bytes) -> Frame:
    decoder = FrameDecoder()
    decoder.feed(data)
    frame = decoder.next_frame()
    assert frame is not NEED_DATA
    assert isinstance(frame, Frame)
    return frame


@settings(max_examples=60)
@given(
    st.sampled_from(["token", "peer", "none", "garbage"]),
    st.lists(_MESSAGES.map(lambda value: json_frame(dump_object(value))) | st.binary(max_size=60), max_size=4),
)
def test_no_server_gets_a_request_without_a_proof(greeting: str, frames: list[bytes]) -> None:
    def script(peer: Peer) -> None:
        if greeting != "garbage":
            auth = {} if greeting == "none" else {"auth": greeting}
            peer.send(notification_frame("hello", {"server": "levityd", "protocol": 1, "nonce": HEX} | auth))
        peer.send(b"".join(frames))

    with FakeServer(script, host="127.0.0.1") as server:
        with pytest.raises(LevityError):
            ask(server, 0.05)
        for peer in server.peers:
            assert len(peer.received) <= 200
            assert b"task" not in peer.received
