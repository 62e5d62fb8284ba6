"""Over TCP the client sends only a nonce to a server that has not proved that it has the token. Runs in: pytest."""

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import pytest

from levity import Client
from levity.addresses import parse_address
from levity.errors import AuthenticationError, HostError, LevityError, ProtocolError, Unavailable
from levity.protocol.frames import STDOUT, chunk_head
from levity.protocol.messages import error_frame, notification_frame, result_frame
from levity.protocol.token_proof import is_nonce_of, server_proof
from levity.transport import connection as connection_module
from levity.transport.connection import Deadline
from levity.transport.credentials import Credentials
from levity.transport.rpc import connect
from tests.support.deadline import eventually
from tests.support.fake_server import FakeServer, Peer, answering, methods, record, requests_in
from tests.support.fake_task import FakeTask

TIMEOUT_S = 20.0
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
HEX = bytes(32).hex()


def ask(server: FakeServer, timeout_s: float = TIMEOUT_S) -> None:
    with Client(server.address, timeout_s, token_file=server.token_file) as client:
        client.query("3f2a")


def test_both_prove_that_they_have_the_token() -> None:
    with FakeServer(answering(record()), host="127.0.0.1") as server:
        ask(server)
        address = parse_address(server.address)
        connection = connect(address, Deadline(TIMEOUT_S), Credentials(token_file=server.token_file))
        assert (connection.server, connection.user, connection.role) == ("levityd/0.1.0", "alice", "user")
        connection.close()
        (first, second) = server.peers
    assert methods(first.received) == ["auth.begin", "auth.finish", "task.query"]
    assert first.received[:80] != second.received[:80], "a nonce that comes twice lets a proof be replayed"


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_only_a_server_with_the_token_is_quoted_in_full(host: str) -> None:
    with FakeServer(answering(record(env={"A": "x" * 100_000})), host=host) as server:
        token_file = server.token_file if host else None
        with Client(server.address, TIMEOUT_S, token_file=token_file) as client:
            assert len(client.query("3f2a").env["A"]) == 100_000


def test_every_connection_of_a_run_shows_the_same_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has one for its requests, one for the log and one for the input."""
    monkeypatch.setenv("LEVITY_TOKEN_FILE", "/none")
    fake = FakeTask([(STDOUT, b"abc")], ends_on="input")
    with FakeServer(fake, host="127.0.0.1") as server:
        with Client(server.address, TIMEOUT_S, token_file=server.token_file) as client:
            assert client.run(["cat"], stdin=b"input").stdout == b"abc"
        assert server.connections >= 3


def test_every_connection_is_authenticated(capfd: pytest.CaptureFixture[str]) -> None:
    def breaks(peer: Peer) -> None:
        peer.hello()
        peer.request()

    with FakeServer(breaks, breaks, answering(record()), host="127.0.0.1") as server:
        ask(server)
    assert server.connections == 3
    assert capfd.readouterr() == ("", "")


# What a server without the token may do: none of it gains anything.


def is_silent(peer: Peer) -> None:
    peer.wait_gone()


def greets_as_peer(peer: Peer) -> None:
    peer.send(notification_frame("hello", {"server": "levityd/0.1.0", "protocol": 1, "auth": "peer", "user": "root"}))
    peer.wait_gone()


def greets_as_certificate(peer: Peer) -> None:
    peer.send(notification_frame("hello", {"server": "levityd", "protocol": 1, "auth": "certificate", "user": "a"}))
    peer.wait_gone()


def greets_as_of_old(peer: Peer) -> None:
    peer.send(notification_frame("hello", {"server": "levityd/0.1.0", "protocol": 1, "nonce": "00ff"}))
    peer.wait_gone()


def token_hello(peer: Peer, nonce: Any = HEX) -> None:
    peer.send(notification_frame("hello", {"server": "levityd", "protocol": 1, "auth": "token", "nonce": nonce}))


def sends_no_nonce(peer: Peer) -> None:
    token_hello(peer, None)
    peer.wait_gone()


def sends_half_a_nonce(peer: Peer) -> None:
    token_hello(peer, "00" * 16)
    peer.wait_gone()


def sends(*frames: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        token_hello(peer)
        peer.read_request()
        for frame in frames:
            peer.send(frame)
        peer.wait_gone()

    return script


def proves_with_another_key(peer: Peer) -> None:
    token_hello(peer)
    begin = peer.read_request()
    nonce = bytes.fromhex(begin.params["nonce"])
    assert not is_nonce_of(OTHER_KEY, nonce)
    peer.reply(begin, {"proof": server_proof(OTHER_KEY, bytes(32), nonce, peer.binding()).hex()})
    peer.wait_gone()


def echoes_the_nonce(peer: Peer) -> None:
    token_hello(peer)
    begin = peer.read_request()
    peer.reply(begin, {"proof": begin.params["nonce"]})
    peer.wait_gone()


# Servers that do not prove that they have the token.
UNPROVED = [
    pytest.param(
        greets_as_peer,
        AuthenticationError,
        "greets with 'peer' where 'token' is to be",
        id="it knows users by the kernel",
    ),
    pytest.param(
        greets_as_certificate,
        AuthenticationError,
        "greets with 'certificate' where 'token'",
        id="it knows users by certificates",
    ),
    pytest.param(
        greets_as_of_old,
        AuthenticationError,
        "older than this client.*nothing was sent. Restart levityd",
        id="it is too old",
    ),
    pytest.param(sends_no_nonce, ProtocolError, "its nonce is none", id="no nonce"),
    pytest.param(sends_half_a_nonce, ProtocolError, "its nonce is none", id="half a nonce"),
    pytest.param(
        proves_with_another_key,
        AuthenticationError,
        "does not have the token in .*something else listens there",
        id="a proof with another key",
    ),
    pytest.param(echoes_the_nonce, AuthenticationError, "does not have the token in", id="the nonce as proof"),
    pytest.param(sends(result_frame(0, {})), ProtocolError, "its proof is none", id="no proof"),
    pytest.param(sends(result_frame(0, {"proof": ""})), ProtocolError, "its proof is none", id="an empty proof"),
    pytest.param(
        sends(result_frame(0, {"proof": HEX})), AuthenticationError, "does not have the token", id="zeros as proof"
    ),
    pytest.param(
        sends(result_frame(1, {"proof": HEX})),
        ProtocolError,
        "answered what was not asked",
        id="an answer to another request",
    ),
    pytest.param(
        sends(result_frame(None, {"server": "levityd", "user": "a", "role": "admin"})),
        ProtocolError,
        "not asked",
        id="known without a proof",
    ),
    pytest.param(
        sends(result_frame(0, {"server": "levityd", "user": "a", "role": "admin"})),
        ProtocolError,
        "proof is none",
        id="a login in place of the proof",
    ),
    pytest.param(
        sends(notification_frame("heartbeat", {})),
        ProtocolError,
        "neither a result nor an error",
        id="a notification in place of the proof",
    ),
    pytest.param(
        sends(chunk_head(STDOUT, 1, 3) + b"abc"),
        ProtocolError,
        "sends output before it is known",
        id="output in place of the proof",
    ),
    pytest.param(
        sends((20_000).to_bytes(4, "big") + b"\0{"), ProtocolError, "the limit is 16384", id="a frame that is too long"
    ),
    pytest.param(
        sends(error_frame(0, AuthenticationError("no"))),
        AuthenticationError,
        r"does not take the token in .*/token \(no\)",
        id="a refusal",
    ),
    pytest.param(
        sends(error_frame(None, AuthenticationError("x" * 900))),
        AuthenticationError,
        r"\(x{200}\);.* login` stores another",
        id="a refusal in many words",
    ),
    pytest.param(sends(error_frame(None, HostError("too many"))), HostError, "^too many$", id="another error"),
]


@pytest.mark.parametrize(("script", "error", "why"), UNPROVED)
def test_a_server_that_proves_nothing_learns_nothing(
    script: Callable[[Peer], None], error: type[LevityError], why: str
) -> None:
    with FakeServer(script, host="127.0.0.1") as server:
        with pytest.raises(error, match=why) as caught:
            ask(server)
        (peer,) = server.peers
    assert "\n" not in caught.value.message
    assert server.key.hex() not in caught.value.message
    assert methods(peer.received) in ([], ["auth.begin"])
    if peer.received:
        (begin,) = requests_in(peer.received)
        assert begin.keys() == {"nonce"}
        assert server.key.hex() not in str(begin)


def test_silence_is_no_levityd() -> None:
    with FakeServer(is_silent, host="127.0.0.1") as server:
        with pytest.raises(LevityError, match=r"no levityd greeted at .* or it speaks TLS"):
            ask(server, 1)
        eventually(lambda: server.peers, "the connection")
        (peer,) = server.peers
    assert peer.received == b""


def test_a_server_that_waits_and_hangs_up_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A levityd that speaks TLS does so after ten seconds: the client must not wait for that thrice."""
    monkeypatch.setattr(connection_module, "SILENCE_S", 0.0)
    with FakeServer(lambda _: None, host="127.0.0.1") as server:
        with pytest.raises(LevityError, match=r"no levityd greeted at .* or it speaks TLS"):
            ask(server)
        assert server.connections == 1


def test_a_recorded_session_cannot_be_played_again() -> None:
    recorded: list[bytes] = []

    def honest(peer: Peer) -> None:
        send = peer.send

        def recording(data: bytes) -> None:
            recorded.append(data)
            send(data)

        peer.send = recording  # type: ignore[method-assign]
        answering(record())(peer)

    def replays(peer: Peer) -> None:
        peer.send(recorded[0])
        peer.read_request()
        peer.send(recorded[1])
        peer.wait_gone()

    with FakeServer(honest, replays, host="127.0.0.1") as server:
        ask(server)
        assert len(recorded) == 4
        with pytest.raises(AuthenticationError, match="does not have the token"):
            ask(server)
        assert methods(server.peers[1].received) == ["auth.begin"]


def test_a_relay_to_the_real_one_is_refused() -> None:
    """Each side uses the address that it sees, so the proofs are about different ones."""
    with FakeServer(Peer.hello, host="127.0.0.1") as real:

        def relays(peer: Peer) -> None:
            host, port = real.address.rsplit(":", 1)
            with socket.create_connection((host, int(port))) as upstream:
                to_client = threading.Thread(target=copy, args=(upstream, peer))
                to_client.start()
                try:
                    while True:
                        upstream.sendall(peer._receive())
                finally:
                    upstream.shutdown(socket.SHUT_RDWR)
                    to_client.join()

        with FakeServer(relays, host="127.0.0.1") as relay:
            with (
                Client(relay.address, TIMEOUT_S, token_file=real.token_file) as client,
                pytest.raises(AuthenticationError, match="not reached at its own address"),
            ):
                client.query("3f2a")
            assert methods(relay.peers[0].received) == ["auth.begin"]


def copy(upstream: socket.socket, peer: Peer) -> None:
    while chunk := upstream.recv(65536):
        peer.send(chunk)


def test_errors_in_place_of_a_greeting() -> None:
    def busy(peer: Peer) -> None:
        peer.send(error_frame(None, Unavailable("too many unauthenticated clients")))

    with FakeServer(busy, answering(record()), host="127.0.0.1") as server:
        ask(server)
        assert server.connections == 2

    def refuses(peer: Peer) -> None:
        peer.send(error_frame(None, AuthenticationError("user bob may not connect")))

    for host in ("", "127.0.0.1"):
        with (
            FakeServer(refuses, host=host) as server,
            Client(server.address, TIMEOUT_S) as client,
            pytest.raises(AuthenticationError, match=r"^user bob may not connect$"),
        ):
            client.query("3f2a")
        assert server.connections == 1, "it is not tried again"


def test_a_request_refused_after_the_login() -> None:
    """The token was revoked meanwhile."""

    def script(peer: Peer) -> None:
        token_hello(peer)
        begin = peer.read_request()
        nonce = bytes.fromhex(begin.params["nonce"])
        peer.reply(begin, {"proof": server_proof(peer.server.key, bytes(32), nonce, peer.binding()).hex()})
        peer.reply(peer.read_request(), AuthenticationError("that token is revoked"))

    with (
        FakeServer(script, host="127.0.0.1") as server,
        pytest.raises(AuthenticationError, match=r"does not take .*\(that token is revoked\)"),
    ):
        ask(server)
    assert server.connections == 1


# The unix socket: the kernel tells who listens.


def test_a_unix_socket_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with FakeServer(answering(record())) as server, Client(server.address) as client:
        if os.getuid() == 0:
            client.query("3f2a")  # Root's levityd is for all users.
        else:
            with pytest.raises(AuthenticationError, match="neither root nor you"):
                client.query("3f2a")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize(
    ("uid", "why"),
    [
        pytest.param(
            1,
            r"is answered by user daemon, neither root nor you; .*runuser -u daemon -- levity",
            id="a user with a name",
        ),
        pytest.param(54321, "by uid 54321", id="a user without one"),
    ],
)
def test_a_squatter_at_a_unix_socket_gets_nothing(uid: int, why: str) -> None:
    directory = tempfile.mkdtemp(prefix="squatter-")
    os.chown(directory, uid, -1)
    squatter = socket.socket(socket.AF_UNIX)
    try:
        os.seteuid(uid)  # The kernel notes who calls listen(2).
        try:
            squatter.bind(f"{directory}/s")
            squatter.listen()
        finally:
            os.seteuid(0)
        with Client(f"unix:{directory}/s", TIMEOUT_S) as client, pytest.raises(AuthenticationError, match=why):
            client.query("3f2a")
        accepted, _ = squatter.accept()
        with accepted:
            assert accepted.recv(100) == b""
    finally:
        squatter.close()
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    "auth",
    [
        pytest.param("token", id="a token"),
        pytest.param("certificate", id="a certificate"),
        pytest.param("x" * 100, id="a long text"),
        pytest.param(5, id="a number"),
        pytest.param(None, id="null"),
    ],
)
def test_a_unix_socket_asks_for_nothing(auth: Any) -> None:
    def script(peer: Peer) -> None:
        peer.hello(auth=auth)
        peer.wait_gone()

    with FakeServer(script) as server, Client(server.address) as client:
        with pytest.raises(AuthenticationError, match="where 'peer' is to be"):
            client.query("3f2a")
        assert server.peers[0].received == b""


def test_an_old_levityd_at_a_unix_socket_is_known_by_the_kernel() -> None:
    def script(peer: Peer) -> None:
        peer.send(notification_frame("hello", {"server": "levityd/0.1.0", "protocol": 1, "nonce": "00"}))
        peer.reply(peer.request(), record())

    with FakeServer(script) as server, Client(server.address) as client:
        client.query("3f2a")
