"""TLS: which servers the client believes, and its messages about the others. Runs in: pytest."""

import _socket
import io
import os
import socket
import ssl
import sys
from pathlib import Path

import pytest

from levity import Client
from levity.cli.main import main
from levity.errors import AuthenticationError, BadAddress, InvalidRequest, ProtocolError, ServerTimeout
from levity.protocol.messages import notification_frame
from levity.transport.connection import Connection
from tests.support.certificates import Authority, Certificate, make_ca, self_signed
from tests.support.fake_server import FakeServer, Peer, Script, record
from tests.support.tls_server import tls_server

TIMEOUT_S = 20.0


pytestmark = pytest.mark.usefixtures("no_tls_environment")


def test_a_self_signed_certificate_is_believed_with_the_tokens_proof(own: Certificate) -> None:
    with tls_server(own) as server:
        with Client(server.address, TIMEOUT_S, tls=True, token_file=server.token_file) as client:
            assert client.query("3f2a").id == record()["id"]
            assert client.query("3f2a").id == record()["id"]
        assert server.connections == 1


def resolve_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the name service: every name is this host's."""

    def getaddrinfo(_host: object, port: int, *_: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    monkeypatch.setattr(_socket, "getaddrinfo", getaddrinfo)


def relaying(real: FakeServer) -> Script:
    """Return a script that passes what is inside one TLS connection on inside another."""

    def script(peer: Peer) -> None:
        host, port = real.address.rsplit(":", 1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(socket.create_connection((host, int(port)))) as upstream:
            # Only hello, auth.begin with the nonce, and the proof go to and fro.
            peer.send(upstream.recv(65536))
            upstream.sendall(peer._receive())
            peer.send(upstream.recv(65536))
            peer.wait_gone()

    return script


def test_a_man_in_the_middle_gets_a_nonce_and_no_more(own: Certificate, tmp_path: Path) -> None:
    his = self_signed(tmp_path, ["elsewhere.example"])
    with tls_server(own, Peer.hello) as real, tls_server(his, relaying(real)) as middle:
        with (
            Client(middle.address, TIMEOUT_S, tls=True, token_file=real.token_file) as client,
            pytest.raises(AuthenticationError, match=r"not reached at its own address.*certificate.*in between"),
        ):
            client.query("3f2a")
        (peer,) = middle.peers
        assert b"auth.begin" in peer.received
        assert peer.received.count(b"jsonrpc") == 1
        assert real.requests == []


def test_a_proof_over_tls_is_none_without_and_the_other_way_round(own: Certificate) -> None:
    """A relay between a plain and a TLS connection can pass nothing on either."""

    def plain_binding(peer: Peer) -> None:
        peer.binding = lambda: b"tcp:127.0.0.1:4321"  # type: ignore[method-assign]
        with pytest.raises(Exception):  # noqa: B017, PT011 - the client hangs up
            peer.hello()

    with (
        tls_server(own, plain_binding) as server,
        Client(server.address, TIMEOUT_S, tls=True, token_file=server.token_file) as client,
        pytest.raises(AuthenticationError, match="does not have the token"),
    ):
        client.query("3f2a")


def test_with_a_ca_the_certificate_counts_and_the_token_too(ca: Authority, own: Certificate) -> None:
    with tls_server(ca.server()) as server:
        with Client(server.address, TIMEOUT_S, ca=ca.path, token_file=server.token_file) as client:
            client.query("3f2a")
        with Client(server.address, TIMEOUT_S, ca=ca.path) as client, pytest.raises(AuthenticationError, match="login"):
            client.query("3f2a")
    with (
        tls_server(own) as server,
        Client(server.address, TIMEOUT_S, ca=ca.path, token_file=server.token_file) as client,
        pytest.raises(AuthenticationError, match="is not one of the CA in"),
    ):
        client.query("3f2a")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_certificates_on_both_sides_need_no_token(ca: Authority, host: str) -> None:
    alice = ca.client("alice")
    with tls_server(ca.server(), client_ca=ca, host="::1" if host == "::1" else "127.0.0.1") as server:
        address = server.address.replace("127.0.0.1", host)
        with Client(address, TIMEOUT_S, ca=ca.path, cert=alice.path, key=alice.key_path) as client:
            assert client.query("3f2a").id == record()["id"]


@pytest.mark.parametrize(
    ("host", "name", "is_right"),
    [
        ("localhost", "localhost", True),
        ("LOCALHOST", "localhost", True),
        ("localhost.", "localhost", True),
        ("localhost", "127.0.0.1", False),
        ("127.0.0.1", "localhost", False),
        ("127.0.0.1", "127.0.0.2", False),
    ],
)
def test_the_certificate_must_be_for_what_the_address_says(
    ca: Authority, host: str, name: str, is_right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(ca.server([name])) as server:
        port = int(server.address.rpartition(":")[2])
        resolve_to_loopback(monkeypatch)
        with Client(f"{host}:{port}", TIMEOUT_S, ca=ca.path, token_file=server.token_file) as client:
            if is_right:
                client.query("3f2a")
            else:
                with pytest.raises(AuthenticationError, match="is for another name"):
                    client.query("3f2a")


def test_key_and_certificate_in_one_file(ca: Authority, tmp_path: Path) -> None:
    alice = ca.client("alice")
    both = tmp_path / "both.pem"
    both.write_bytes(alice.pem + alice.key_pem)
    with (
        tls_server(ca.server(), client_ca=ca) as server,
        Client(server.address, TIMEOUT_S, ca=ca.path, cert=both) as client,
    ):
        client.query("3f2a")


def test_the_environment_names_the_files(ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = ca.client("alice")
    monkeypatch.setenv("LEVITY_CACERT", str(ca.path))
    monkeypatch.setenv("LEVITY_CLIENT_CERT", str(alice.path))
    monkeypatch.setenv("LEVITY_CLIENT_KEY", str(alice.key_path))
    with tls_server(ca.server(), client_ca=ca) as server, Client(server.address, TIMEOUT_S) as client:
        client.query("3f2a")


def wrong_server(ca: Authority, tmp_path: Path, fault: str) -> Certificate:
    if "CA" in fault:
        return make_ca(tmp_path, *([] if "same" in fault else ["another CA"])).server()
    if fault == "another name":
        return ca.server(["other.example", "192.0.2.1"])
    if fault == "only a common name":
        return ca.server([], cn="127.0.0.1")
    if fault == "expired":
        return ca.server(expired=True)
    if fault == "a client's":
        return ca.client("alice", names=["127.0.0.1"])
    assert fault == "of no CA"
    return self_signed(tmp_path)


@pytest.mark.parametrize("with_certificate", [False, True])
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("another CA", "is not one of the CA in .*ca-0.pem: check"),
        ("a CA of the same name", "is not one of the CA in"),
        ("of no CA", "is not one of the CA in"),
        ("another name", "is for another name"),
        ("only a common name", "is for another name"),
        ("expired", "has expired"),
        ("a client's", "is not one for servers"),
    ],
)
def test_a_server_that_is_not_to_be_trusted(
    ca: Authority, tmp_path: Path, fault: str, why: str, with_certificate: bool
) -> None:
    alice = ca.client("alice")
    cert, key = (alice.path, alice.key_path) if with_certificate else (None, None)
    client_ca = ca if with_certificate else None
    with tls_server(wrong_server(ca, tmp_path, fault), client_ca=client_ca) as server:
        with (
            Client(server.address, TIMEOUT_S, ca=ca.path, cert=cert, key=key) as client,
            pytest.raises(AuthenticationError, match=why) as caught,
        ):
            client.query("3f2a")
        assert server.peers == [], "the handshake did not end: nothing was sent, our certificate neither"
    assert caught.value.message.endswith("nothing was sent")
    assert "\n" not in caught.value.message


def refused_client(ca: Authority, tmp_path: Path, fault: str) -> Certificate:
    if "CA" in fault:
        return make_ca(tmp_path, *([] if "same" in fault else ["another CA"])).client("alice")
    if fault == "expired":
        return ca.client("alice", expired=True)
    if fault == "a server's":
        return ca.server(cn="alice")
    assert fault == "revoked"
    return ca.client("mallory")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("another CA", "its CA is not the server's"),
        ("a CA of the same name", "its signature is not one of the server's CA"),
        ("expired", "it is expired"),
        ("a server's", "refuses .*pem: it is "),
        ("revoked", "it is revoked"),
    ],
)
def test_a_client_that_the_server_does_not_take(ca: Authority, tmp_path: Path, fault: str, why: str) -> None:
    """With TLS 1.3 the client's handshake is over before the server has looked: the refusal comes at the first read."""
    shown = refused_client(ca, tmp_path, fault)
    crl = ca.crl([shown]) if fault == "revoked" else None
    with tls_server(ca.server(), client_ca=ca, crl=crl) as server:
        with (
            Client(server.address, TIMEOUT_S, ca=ca.path, cert=shown.path, key=shown.key_path) as client,
            pytest.raises(AuthenticationError, match=why) as caught,
        ):
            client.query("3f2a")
        assert server.peers == []
    assert str(shown.path) in caught.value.message


def test_a_server_that_asks_for_a_certificate(ca: Authority) -> None:
    with tls_server(ca.server(), client_ca=ca) as server:
        for given in (None, ca.path):
            with (
                Client(server.address, TIMEOUT_S, tls=True, ca=given, token_file=server.token_file) as client,
                pytest.raises(AuthenticationError, match="asks for a certificate: give yours"),
            ):
                client.query("3f2a")
        assert server.peers == []


def test_a_certificate_where_a_token_is_asked_for(ca: Authority) -> None:
    alice = ca.client("alice")
    with tls_server(ca.server()) as server:
        with (
            Client(server.address, TIMEOUT_S, ca=ca.path, cert=alice.path, key=alice.key_path) as client,
            pytest.raises(AuthenticationError, match="knows its users by tokens: leave the certificate out"),
        ):
            client.query("3f2a")
        assert server.peers[0].received == b""


def test_a_server_that_asks_for_no_certificate_is_refused(own: Certificate) -> None:
    """Without a CA only the token's proof says whose certificate it is."""

    def script(peer: Peer) -> None:
        peer.server.auth = "certificate"
        peer.hello()
        peer.wait_gone()

    with tls_server(own, script) as server:
        with (
            Client(server.address, TIMEOUT_S, tls=True, token_file=server.token_file) as client,
            pytest.raises(AuthenticationError, match="greets with 'certificate' where 'token'"),
        ):
            client.query("3f2a")
        assert server.peers[0].received == b""


def test_a_plain_server_where_tls_is_expected() -> None:
    with (
        FakeServer(token_hello, host="127.0.0.1") as server,
        Client(server.address, TIMEOUT_S, tls=True, token_file=server.token_file) as client,
        pytest.raises(ProtocolError, match="speaks no TLS: it is no levityd, or one that listens on loopback only"),
    ):
        client.query("3f2a")


def token_hello(peer: Peer) -> None:
    peer.send(notification_frame("hello", {"server": "levityd", "auth": "token", "protocol": 1, "nonce": "00" * 32}))
    peer.wait_gone()


def says(data: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.send(data)
        peer.wait_gone()

    return script


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="an SSH server"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="an HTTP server"),
        pytest.param(bytes(100), id="zeros"),
    ],
)
def test_a_server_that_speaks_no_tls(data: bytes) -> None:
    with (
        FakeServer(says(data), host="127.0.0.1") as server,
        Client(server.address, TIMEOUT_S, tls=True) as client,
        pytest.raises(ProtocolError, match="speaks no TLS"),
    ):
        client.query("3f2a")


def test_a_tls_server_where_plain_is_expected() -> None:
    """The server says why in TLS, or nothing (see the tests of silence)."""
    with (
        FakeServer(says(bytes.fromhex("15030300020246")), host="127.0.0.1") as server,
        Client(server.address, TIMEOUT_S, token_file=server.token_file) as client,
        pytest.raises(ProtocolError, match=r"is no levityd .*, or it speaks TLS \(--tls\); check the address"),
    ):
        client.query("3f2a")


def test_no_older_tls(own: Certificate) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.path, own.key_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        FakeServer(Peer.hello, host="127.0.0.1", tls=context, certificate=own.pem) as server,
        Client(server.address, TIMEOUT_S, tls=True, token_file=server.token_file) as client,
        pytest.raises(ProtocolError, match=r"does not speak TLS 1\.3"),
    ):
        client.query("3f2a")


def test_a_handshake_that_stands_still() -> None:
    with (
        FakeServer(Peer.wait_gone, host="127.0.0.1") as server,
        Client(server.address, timeout=0.1, tls=True) as client,
        pytest.raises(ServerTimeout, match=r"within 0.1 s"),
    ):
        client.query("3f2a")


def test_an_address_off_loopback_is_never_spoken_to_in_plain(own: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any options."""
    monkeypatch.setattr(Connection, "peer_name", lambda _: ("192.0.2.1", 4321))
    with (
        FakeServer(token_hello, host="127.0.0.1") as server,
        Client(server.address, TIMEOUT_S, token_file=server.token_file) as client,
        pytest.raises(ProtocolError, match="speaks no TLS"),
    ):
        client.query("3f2a")
    with tls_server(own) as server, Client(server.address, TIMEOUT_S, token_file=server.token_file) as client:
        client.query("3f2a")


def test_the_command_speaks_tls_and_logs_in(
    ca: Authority, own: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    alice = ca.client("alice")
    with tls_server(ca.server(), client_ca=ca) as server:
        options = ["--ca", str(ca.path), "-c", str(alice.path), "--key", str(alice.key_path)]
        assert main(["-a", server.address, *options, "query", "3f2a"]) == 0
        assert capfd.readouterr() == ("Running\n", "")
        assert main(["-a", server.address, *options[:2], "query", "3f2a"]) == 255
        assert "asks for a certificate: give yours" in capfd.readouterr().err
    with tls_server(own) as server:
        monkeypatch.setattr(os, "isatty", lambda _: False)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(server.token_file).read_bytes())))
        assert main(["-a", server.address, "--tls", "login"]) == 0
        assert "as alice, role user; the token is in" in capfd.readouterr().err
        assert (tmp_path / "levity" / "tokens" / server.address).exists()
        assert main(["-a", server.address, "--tls", "query", "3f2a"]) == 0


# Files that cannot be used.


def test_files_that_cannot_be_used(ca: Authority, own: Certificate, tmp_path: Path) -> None:
    alice, bob = ca.client("alice"), ca.client("bob")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("this is no certificate")
    locked = tmp_path / "locked.key"
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key(alice.key_pem, None)
    locked.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")))
    cases: list[tuple[dict[str, Path], str]] = [
        ({"ca": tmp_path / "none.pem"}, r"cannot read '.*none\.pem': No such file"),
        ({"ca": garbage}, r"garbage\.pem: not all of it is PEM"),
        ({"ca": ca.path, "cert": garbage}, "not all of it is PEM"),
        ({"ca": ca.path, "cert": alice.path}, "not all of it is PEM"),
        ({"ca": ca.path, "cert": alice.path, "key": bob.key_path}, "or the key is another one's"),
        (
            {"ca": ca.path, "cert": alice.path, "key": locked},
            r"locked\.key: the key has a passphrase; give one without",
        ),
    ]
    with tls_server(own) as server:
        for given, why in cases:
            with Client(server.address, TIMEOUT_S, **given) as client, pytest.raises(InvalidRequest, match=why):  # type: ignore[arg-type]
                client.query("3f2a")
        assert server.peers == []


def test_a_host_that_no_certificate_can_be_for(own: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(own) as server:
        port = int(server.address.rpartition(":")[2])
        resolve_to_loopback(monkeypatch)
        with Client(f".x:{port}", TIMEOUT_S, tls=True) as client, pytest.raises(BadAddress, match="no certificate"):
            client.query("3f2a")
