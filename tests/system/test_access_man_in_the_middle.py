"""An attacker between client and levityd: another certificate, changed bytes, recorded bytes, clear text before TLS."""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from levity import AuthenticationError, Client, LevityError
from levity.protocol.messages import request_frame
from levity.protocol.token_proof import parse_token
from tests.support.attack import Audit
from tests.support.certificates import Certificate, self_signed
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.paths import levityd_command
from tests.support.raw import Raw
from tests.support.tasks import client_of, ended

Change = Callable[[bytes, int], bytes]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    certificate = self_signed(tmp_path_factory.mktemp("tls"))
    files = ["--certificate", str(certificate.path), "--key", str(certificate.key_path)]
    one = Daemon("127.0.0.1:0", command=[*levityd_command(), *files])
    try:
        yield one.start()
    finally:
        one.end()


def client_at(daemon: Daemon, port: int, timeout_s: float = 10.0) -> Client:
    return Client(f"127.0.0.1:{port}", timeout_s, tls=True, token_file=daemon.token_file)


def port_of(daemon: Daemon) -> int:
    return int(str(daemon.address).rpartition(":")[2])


@contextmanager
def between(
    daemon: Daemon, *, tls: Certificate | None = None, change: Change = lambda data, _at: data
) -> Iterator[int]:
    """Pass on what comes to a port of our own; yield that.

    With `tls`, end TLS here and begin it anew to levityd. `change(data, at)` is what becomes of what the client sends
    on the first connection, at that position.
    """
    server = socket.create_server(("127.0.0.1", 0))
    threads = [threading.Thread(target=_serve, args=(server, daemon, tls, change))]
    threads[0].start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        threads[0].join()


def _serve(server: socket.socket, daemon: Daemon, tls: Certificate | None, change: Change | None) -> None:
    pumps = []
    number = 0
    theirs = ssl.create_default_context()
    theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
    while True:
        try:
            near, _address = server.accept()
        except OSError:
            break
        if tls is not None:
            ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ours.load_cert_chain(tls.path, tls.key_path)
            near = ours.wrap_socket(near, server_side=True)
        # levityd gives a client a second to begin TLS.
        far = socket.create_connection(("127.0.0.1", port_of(daemon)), 10)
        if tls is not None:
            far = theirs.wrap_socket(far)
        first, number = change if number == 0 else None, number + 1
        ends = (near, far, first), (far, near, None)
        pumps += [threading.Thread(target=_pump, args=one) for one in ends]
        for pump in pumps[-2:]:
            pump.start()
    for pump in pumps:
        pump.join()


def _pump(source: socket.socket, sink: socket.socket, change: Change | None) -> None:
    at = 0
    source.settimeout(20)
    try:
        while data := source.recv(65536):
            sink.sendall(data if change is None else change(data, at))
            at += len(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            socket.socket.shutdown(end, socket.SHUT_RDWR)
        except OSError:
            pass
    source.close()


def runs(marker: Path) -> int:
    return len(marker.read_text().splitlines()) if marker.exists() else 0


def test_a_man_in_the_middle_with_another_certificate(guarded: Daemon, tmp_path: Path) -> None:
    """He has TLS with both, and passes everything on: the proofs do not fit."""
    marker, heard = tmp_path / "marker", bytearray()

    def hear(data: bytes, _at: int) -> bytes:
        heard.extend(data)
        return data

    with (
        between(guarded, tls=self_signed(tmp_path), change=hear) as port,
        client_at(guarded, port) as client,
        pytest.raises(AuthenticationError, match="certificate"),
    ):
        client.start(["/bin/sh", "-c", f"echo x >>{marker}"])
    assert b"auth.begin" in heard
    assert b"auth.finish" not in heard
    assert b"task.start" not in heard
    assert runs(marker) == 0


@pytest.mark.parametrize("position", [3, 60, 300, 700, 1000], ids="byte {}".format)
def test_a_flipped_bit_ends_the_connection_and_the_task_runs_once(
    guarded: Daemon, tmp_path: Path, position: int
) -> None:
    marker = tmp_path / "marker"

    def flip(data: bytes, at: int) -> bytes:
        if not at <= position < at + len(data):
            return data
        changed = bytearray(data)
        changed[position - at] ^= 4
        return bytes(changed)

    with between(guarded, change=flip) as port, client_at(guarded, port) as client:
        try:
            task_id = client.start(["/bin/sh", "-c", f"echo x >>{marker}"])
        except LevityError:
            assert runs(marker) == 0  # It broke before anything was asked for.
        else:
            ended(client, task_id)
            assert runs(marker) == 1


def test_a_recorded_login_cannot_be_replayed(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Loopback is in the clear: a user who may listen there has every byte of a dialogue."""
    daemon = make_daemon("127.0.0.1:0").start()
    marker = tmp_path / "marker"
    sent = bytearray()

    class Recorded(Raw):
        def send(self, data: bytes) -> None:
            sent.extend(data)
            super().send(data)

    start = {"id": "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42", "argv": ["/bin/sh", "-c", f"echo x >>{marker}"]}
    with Recorded(daemon) as raw:
        raw.send(request_frame(1, "task.start", start))
        assert "result" in raw.reply()
    eventually(lambda: runs(marker) == 1, "the task")
    again = bytes(sent).replace(b"3f2a9c1e", b"4f2a9c1e")
    with Raw(daemon, known=False) as other:
        other.send(again)
        # The nonce is one that a client with the token made, so levityd answers; but its own is another.
        assert "proof" in other.reply()["result"]
        other.check_refused()
    with client_of(daemon.address) as client:
        assert len(list(client.list(all=True))) == 1
    assert runs(marker) == 1
    assert parse_token(daemon.token_file.read_text()).hex().encode() not in sent


@pytest.mark.parametrize("end", ["close", "reset", "half"])
def test_bytes_sent_before_tls_are_never_read_as_if_they_came_after(guarded: Daemon, tmp_path: Path, end: str) -> None:
    """CVE-2023-40217."""
    marker = tmp_path / "marker"
    start = {"id": "5f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42", "argv": ["/usr/bin/touch", str(marker)]}
    audit = Audit(guarded)
    with socket.create_connection(("127.0.0.1", port_of(guarded)), 10) as sock:
        sock.sendall(request_frame(1, "task.start", start))
        if end == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if end == "half":
            try:
                sock.shutdown(socket.SHUT_WR)
                assert b"{" not in sock.recv(4096)
            except OSError:  # levityd may have been the first to end it.
                pass
    with client_at(guarded, port_of(guarded)) as client:
        client.info()
        assert all(task.id != start["id"] for task in client.list(all=True))
    assert not marker.exists()
    assert "task.start" not in [line["op"] for line in audit.lines()]
    assert not os.path.exists(guarded.state_dir / "tasks" / str(start["id"]))
