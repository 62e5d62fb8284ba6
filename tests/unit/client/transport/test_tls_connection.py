"""A connection that speaks TLS: ends, breaks, deadlines, and bytes that are decrypted already. Runs in: pytest."""

import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

import pytest

from levity import Client
from levity.addresses import parse_address
from levity.errors import ConnectionLost, LevityError, ServerTimeout
from levity.protocol.frames import STDOUT
from levity.transport import connection as connection_module
from levity.transport.connection import Connection, Deadline
from levity.transport.credentials import Credentials
from levity.transport.rpc import connect
from levity.transport.tls_login import start_tls
from tests.support.certificates import Certificate
from tests.support.fake_server import LIMIT_S, Peer, answering, log_wire, record, serving_log
from tests.support.tls_server import tls_server

TIMEOUT_S = 20.0

pytestmark = pytest.mark.usefixtures("no_tls_environment")


@pytest.fixture
def tls_pair(own: Certificate) -> Iterator[tuple[Connection, Peer]]:
    """A client's connection, and the server's end of it."""
    ready = threading.Event()

    def script(peer: Peer) -> None:
        peer.hello()
        ready.set()
        peer.wait_gone()

    with tls_server(own, script) as server:
        credentials = Credentials(tls=True, token_file=server.token_file)
        connection = connect(parse_address(server.address), Deadline(TIMEOUT_S), credentials)
        assert ready.wait(TIMEOUT_S)
        yield connection, server.peers[0]
        connection.close()


def test_an_end_without_a_farewell_is_a_break(tls_pair: tuple[Connection, Peer]) -> None:
    """An attacker who cuts the line must not be able to fake the end."""
    connection, peer = tls_pair
    socket.socket.shutdown(peer._socket, socket.SHUT_WR)
    with pytest.raises(ConnectionLost, match=r"closed by the other side|eof"):
        connection.receive(Deadline(TIMEOUT_S))


def test_an_end_with_a_farewell_is_a_break_too(own: Certificate) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.request()
        assert isinstance(peer._socket, ssl.SSLSocket)
        try:
            peer._socket.unwrap()
        except OSError:
            pass  # The client closes without.

    with tls_server(own, script, answering(record())) as server:
        with Client(server.address, TIMEOUT_S, tls=True, token_file=server.token_file) as client:
            client.query("3f2a")
        assert server.connections == 2


def test_a_flipped_byte_is_a_break(own: Certificate) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.request()
        # A record that was not made with the keys.
        os.write(peer._socket.fileno(), bytes.fromhex("1703030020") + bytes(32))
        peer.wait_gone()

    with tls_server(own, script, answering(record())) as server:
        with Client(server.address, TIMEOUT_S, tls=True, token_file=server.token_file) as client:
            assert client.query("3f2a").id == record()["id"]
        assert server.connections == 2


def test_another_thread_can_abort_it(tls_pair: tuple[Connection, Peer]) -> None:
    connection, peer = tls_pair
    failures: list[LevityError] = []

    def reads() -> None:
        try:
            connection.receive(Deadline(TIMEOUT_S))
        except LevityError as error:
            failures.append(error)

    thread = threading.Thread(target=reads)
    thread.start()
    connection.abort()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    assert isinstance(failures[0], ConnectionLost)
    before = len(peer.received)
    # ssl's own shutdown() would leave a socket that writes plain bytes.
    with pytest.raises(ConnectionLost):
        connection.send(b"secret" * 1000, Deadline(TIMEOUT_S))
    assert len(peer.received) == before
    assert connection._is_tls()
    assert connection._socket._sslobj is not None  # type: ignore[attr-defined]


def test_bytes_that_are_decrypted_already_are_not_waited_for(own: Certificate) -> None:
    """poll(2) knows only of bytes that are still encrypted."""

    def script(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        # One record: the kernel has no more bytes once the first ones are read.
        peer.send(log_wire([(STDOUT, b"x" * 5000)], request))
        peer.wait_gone()

    def wait(fd: int, timeout_s: float) -> None:
        assert select.select([fd], [], [], timeout_s)[0], "it waits for what is there"

    with (
        tls_server(own, script) as server,
        pytest.MonkeyPatch.context() as patch,
        Client(server.address, TIMEOUT_S, tls=True, token_file=server.token_file) as client,
    ):
        patch.setattr(connection_module, "RECEIVE_BYTES", 100)
        reader = client.open_log("3f2a", follow=True)
        reader.on_wait = wait
        assert b"".join(chunk.data for chunk in reader.chunks()) == b"x" * 5000


def test_a_large_request_and_a_large_answer(own: Certificate) -> None:
    data = os.urandom(3_000_000)
    with tls_server(own, answering(record()), serving_log([(STDOUT, data)])) as server:
        with Client(server.address, TIMEOUT_S, tls=True, token_file=server.token_file) as client:
            client.start(["echo", "x" * 5_000_000])
            assert b"".join(chunk.data for chunk in client.logs("3f2a")) == data
        assert server.requests[0].params["argv"][1] == "x" * 5_000_000


def test_a_server_that_reads_nothing_is_given_up_in_time(own: Certificate) -> None:
    stop = threading.Event()

    def stuffed(peer: Peer) -> None:
        peer.hello()
        stop.wait(TIMEOUT_S)

    with tls_server(own, stuffed) as server:
        with (
            Client(server.address, 0.3, tls=True, token_file=server.token_file) as client,
            pytest.raises(ServerTimeout),
        ):
            client.start(["echo", "x" * 12_000_000])
        stop.set()


# By then ssl has made a socket, which it leaves to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_connection_that_is_reset_before_tls_begins_is_lost() -> None:
    """A levityd may be killed just then: ssl looks at the socket, and raises what it finds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        raw = socket.create_connection((host, port))
        other, _address = server.accept()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        poller = select.poll()
        poller.register(raw, 0)
        assert poller.poll(LIMIT_S * 1000)
        connection = Connection(raw, parse_address(f"{host}:{port}"))
        with pytest.raises(ConnectionLost):
            start_tls(connection, Credentials(tls=True), Deadline(TIMEOUT_S))
        connection.close()
