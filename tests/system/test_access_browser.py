"""A page in a browser on this host, and programs that speak something else: whatever they send, nothing is done."""

import os
import shutil
import subprocess
from collections.abc import Sequence

import pytest

from levity.protocol.frames import FRAME_LIMIT, UNAUTHENTICATED_FRAME_LIMIT
from levity.protocol.messages import request_frame
from levity.protocol.token_proof import make_nonce
from tests.support.attack import OPERATIONS, check_refusal, connect, read_all, read_bytes, request
from tests.support.guarded import Guarded
from tests.support.paths import clean_environment

VERBS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PROPFIND",
    "QUERY",
    "M-SEARCH",
)
CLIENT_HELLO = bytes.fromhex("160301002f0100002b0303") + bytes(32) + bytes.fromhex("000002130100")
FIRST_BYTES = {
    "WebSocket": b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "TLS": CLIENT_HELLO,
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
    "SMTP": b"EHLO localhost\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "FTP data": b"PORT 127,0,0,1,16,225\r\n",
    "TURN": bytes.fromhex("000300082112a442") + bytes(12),
}
plain = pytest.mark.parametrize("guarded", ["plain"], indirect=True)
both = pytest.mark.parametrize("guarded", ["plain", "inside_tls", "mutual"], indirect=True)


def frames(guarded: Guarded) -> bytes:
    """Return every request, as an attacker who knows the protocol would put them into a body."""
    begin = request_frame(0, "auth.begin", {"nonce": make_nonce(os.urandom(32)).hex()})
    return begin + b"".join(request(name, guarded.task_id, guarded.marker) for name in OPERATIONS)


def post(guarded: Guarded, verb: str) -> bytes:
    body = frames(guarded)
    head = f"{verb} / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def say(guarded: Guarded, data: bytes) -> None:
    """Send it in the clear and see that the connection ends without more than everybody is told."""
    with connect(guarded.address) as sock:
        sock.sendall(data)
        if guarded.certificate is None:
            check_refusal(read_all(sock))
        else:
            assert len(read_bytes(sock)) <= 7  # An alert of TLS (RFC 8446, section 5.1).


@both
def test_every_verb(guarded: Guarded) -> None:
    watch = guarded.watch()
    for verb in VERBS:
        say(guarded, post(guarded, verb))
    watch.check(len(VERBS), guarded.poke)


@both
def test_other_protocols(guarded: Guarded) -> None:
    watch = guarded.watch()
    # Where TLS is spoken TLS is no other protocol, and OpenSSL waits ten seconds for the rest of what TURN begins with.
    others = [data for name, data in FIRST_BYTES.items() if guarded.certificate is None or name not in ("TLS", "TURN")]
    for data in others:
        say(guarded, data + frames(guarded))
    watch.check(len(others), guarded.poke)


@plain
def test_four_bytes_are_enough(guarded: Guarded) -> None:
    """Nothing behind the first bytes is looked at, nor waited for."""
    watch = guarded.watch()
    beginnings = [f"{verb}    "[:4].encode() for verb in VERBS] + [data[:4] for data in FIRST_BYTES.values()]
    beginnings = [data for data in beginnings if int.from_bytes(data, "big") > 16384]
    assert len(beginnings) >= len(VERBS) + len(FIRST_BYTES) - 1
    for data in beginnings:
        with connect(guarded.address) as sock:
            sock.sendall(data)
            check_refusal(read_all(sock))
    watch.check(len(beginnings), guarded.poke)


@plain
def test_a_length_over_the_unauthenticated_limit_is_refused_before_its_bytes_come(guarded: Guarded) -> None:
    watch = guarded.watch()
    lengths = (UNAUTHENTICATED_FRAME_LIMIT + 1, FRAME_LIMIT, FRAME_LIMIT + 1)
    for length in lengths:
        with connect(guarded.address) as sock:
            sock.settimeout(5)  # Less than the deadline of an unauthenticated client.
            sock.sendall(length.to_bytes(4, "big"))
            check_refusal(read_all(sock))
    watch.check(len(lengths), guarded.poke)


def run(command: Sequence[str], data: bytes) -> bytes:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    done = subprocess.run(command, input=data, capture_output=True, env=clean_environment(), timeout=30, check=False)
    return done.stdout


CURL = ("curl", "--silent", "--insecure", "--noproxy", "*", "--max-time", "20", "--data-binary", "@-")


@both
def test_curl(guarded: Guarded) -> None:
    for command in (
        [*CURL, f"http://{guarded.address}/"],
        [*CURL, "--http0.9", f"http://{guarded.address}/"],
        [*CURL, "--http2-prior-knowledge", f"http://{guarded.address}/"],
        [*CURL, "--http0.9", f"https://{guarded.address}/"],
        [*CURL, f"gopher://{guarded.address}/_{'%00' * 4}"],
    ):
        watch = guarded.watch()
        said = run(command, frames(guarded))
        assert b"result" not in said
        assert guarded.task_id.encode() not in said
        assert b"secret" not in said
        watch.check_nothing_done()
        # One that hung up before anything of it was seen is not counted.
        assert watch.audit.refused() <= 1


@both
def test_openssl(guarded: Guarded) -> None:
    for version in ("-tls1_3", "-tls1_2"):
        watch = guarded.watch()
        command = ["openssl", "s_client", "-quiet", "-connect", guarded.address, version]
        said = run(command, frames(guarded))
        assert b"result" not in said
        assert b"secret" not in said
        watch.check(1, guarded.poke)
