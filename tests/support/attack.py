"""What attackers send, and how to see that nothing came of it. Runs in: tests. Owns: the sockets it is asked for."""

import json
import os
import re
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from levity.addresses import parse_address
from levity.protocol.frames import Frame, FrameDecoder
from levity.protocol.messages import request_frame
from levity.protocol.token_proof import client_proof, make_nonce
from supervisor.spool.layout import TASKS
from tests.support.certificates import Certificate
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.paths import ROOT

__all__ = [
    "INNER",
    "OPERATIONS",
    "OTHER_NAMES",
    "Audit",
    "Watch",
    "check_refusal",
    "connect",
    "enter",
    "named_in_source",
    "prove",
    "read_all",
    "read_bytes",
    "read_one",
    "request",
    "secure",
]

JsonObject = dict[str, Any]
PATIENCE_S = 15.0

# Methods of clients, methods that levityd's own processes ask each other for, and names of no method.
OPERATIONS = (
    *("task.start", "task.query", "task.signal", "task.list", "task.logs", "task.stdin", "task.wait", "server.info"),
)
INNER = (
    *("auth.nonce", "auth.begin", "auth.finish", "auth.peer", "auth.certificate", "auth.rejected", "auth.check"),
    *("spool.open", "task.unwait", "tls.crl"),
)
OTHER_NAMES = (
    *("", ".", "task", "task.", "hello", "heartbeat", "TASK.START", "task.start ", "task.start\0", " task.start"),
    *("task.start.__globals__", "__class__", "__init__", "_start", "handle", "_table", "link.call", "run", "close"),
    *("system.listMethods", "supervisor.shutdown", "os.system", "../task.start", "task/start", "\u0442ask.start"),
)


def named_in_source() -> set[str]:
    """Return every name of an operation that stands in a table of levityd's."""
    files = ("frontend/session.py", "engine/operations/dispatch.py", "engine/operations/frontend.py")
    texts = [(ROOT / "supervisor" / name).read_text() for name in files]
    return {name for text in texts for name in re.findall(r'^ +"([a-z]+\.[a-z]+)": ', text, re.MULTILINE)}


def request(method: str, task_id: str, marker: Path | str = "/nonexistent/marker") -> bytes:
    """Return a request that would do something, or tell something, if it was served."""
    new = f"deadbeef-0000-4000-8000-{os.urandom(6).hex()}"
    params: dict[str, JsonObject] = {
        "task.start": {"id": new, "argv": ["/bin/sh", "-c", f"echo ran >>'{marker}'"]},
        "task.stdin": {"id": task_id, "data": "eA==", "offset": 0},
        "task.signal": {"id": task_id, "grace_s": 0},
        "task.list": {"all": True},
        "task.wait": {"ids": [task_id], "timeout_s": 0.1},
        "auth.begin": {"nonce": os.urandom(32).hex()},
        "auth.finish": {"proof": os.urandom(32).hex()},
        "auth.certificate": {"names": ["root"], "not_after": 2.0**40, "crl": "", "peer": "1.2.3.4:5"},
        "auth.rejected": {"peer": "none", "reason": "made up"},
        "spool.open": {"id": task_id, "for": "task.logs"},
        "task.unwait": {"token": "0"},
        "tls.crl": {"known": "x"},
    }
    return request_frame(1, method, params.get(method, {"id": task_id}))


def connect(address: str | None) -> socket.socket:
    """Connect to where a daemon listens, with a deadline for all that follows."""
    where = parse_address(address or "")
    if where.is_unix:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE_S)
        sock.connect(where.path)
        return sock
    return socket.create_connection((where.host, where.port), PATIENCE_S)


def secure(
    sock: socket.socket,
    certificate: Certificate | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLSocket:
    """Speak TLS of one version as the client, and believe any server; `sock` is used up. SSLError if it is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(certificate.path, certificate.key_path)
    try:
        return context.wrap_socket(sock)
    except BaseException:
        sock.close()
        raise


def read_all(sock: socket.socket) -> list[JsonObject]:
    """Return every message until the other side ends the connection, in whatever way; AssertionError for output."""
    decoder, found = FrameDecoder(), []
    while data := _receive(sock):
        decoder.feed(data)
        while isinstance(frame := decoder.next_frame(), Frame):
            assert frame.kind == 0
            found.append(json.loads(frame.body))
    assert not decoder.pending
    return found


def read_one(sock: socket.socket) -> JsonObject:
    """Return the next message, reading not a byte more; {} at the end."""
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        more = sock.recv(4 - len(data) if len(data) < 4 else 4 + int.from_bytes(data[:4], "big") - len(data))
        if not more:
            return {}
        data += more
    found = json.loads(data[5:])
    assert isinstance(found, dict)
    return found


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except TimeoutError:
        raise AssertionError("levityd keeps the connection of an unknown client open") from None
    except (ConnectionError, ssl.SSLError):
        return b""


def read_bytes(sock: socket.socket) -> bytes:
    """Return all that comes until the end, whatever it is."""
    found = b""
    try:
        while data := sock.recv(65536):
            found += data
    except ConnectionError:
        pass
    return found


def prove(sock: socket.socket, key: bytes, binding: bytes, *, last: bytes = b"") -> list[JsonObject]:
    """Do the client's part of the proofs and send `last` with the second; return all that comes until the end.

    The server's proof is not checked: the attacker does not mind which server it is.
    """
    hello = read_one(sock)
    nonces = bytes.fromhex(hello["params"]["nonce"]), make_nonce(key)
    sock.sendall(request_frame(0, "auth.begin", {"nonce": nonces[1].hex()}))
    begun = read_one(sock)
    if "result" not in begun:
        return [hello, begun, *read_all(sock)] if begun else [hello]
    sock.sendall(request_frame(0, "auth.finish", {"proof": client_proof(key, *nonces, binding).hex()}) + last)
    return [hello, begun, *read_all(sock)]


def enter(sock: socket.socket, key: bytes, binding: bytes) -> socket.socket:
    """Do the client's part of the proofs and return the connection, on which requests are served from now on."""
    nonces = bytes.fromhex(read_one(sock)["params"]["nonce"]), make_nonce(key)
    sock.sendall(request_frame(0, "auth.begin", {"nonce": nonces[1].hex()}))
    assert "result" in read_one(sock)
    sock.sendall(request_frame(0, "auth.finish", {"proof": client_proof(key, *nonces, binding).hex()}))
    assert "result" in read_one(sock)
    return sock


def check_refusal(messages: Iterable[JsonObject]) -> None:
    """Check that an unknown client got nothing but the greeting, which all get, and at most one refusal."""
    rest = list(messages)
    if rest and rest[0].get("method") == "hello":
        assert set(rest[0]["params"]) == {"server", "protocol", "auth", "nonce"}, rest[0]
        assert rest[0]["params"]["server"] == "levityd"
        del rest[0]
    assert len(rest) <= 1, rest
    for refusal in rest:
        assert set(refusal) == {"jsonrpc", "id", "error"}
        assert refusal["id"] is None
        assert refusal["error"]["code"] in {40, -32700, -32602}, refusal


class Audit:
    """The lines of a daemon's audit from now on. Before each look, a client that is let in has it written."""

    def __init__(self, daemon: Daemon) -> None:
        self._path = daemon.state_dir / "audit.log"
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def lines(self) -> list[JsonObject]:
        """Return the lines that were written since."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            return [json.loads(line) for line in file.read().splitlines()]

    def refused(self) -> int:
        """Return how many refusals there were, also of those too many to be written."""
        lines = self.lines()
        denied = sum(bool(line["decision"] == "denied") for line in lines)
        dropped = sum(int(line.get("dropped", 0)) for line in lines)
        return denied + dropped


class Watch:
    """Checks that unknown clients changed nothing: levityd's processes, tasks, their directories and their records.

    `poke()` connects as a client that is let in: it has the audit tell what it dropped.
    """

    def __init__(self, daemon: Daemon, marker: Path) -> None:
        self._daemon = daemon
        self._marker = marker
        self.audit = Audit(daemon)
        self._before = self._look()

    def _look(self) -> tuple[dict[str, list[int]], dict[str, tuple[int, int, int, int]]]:
        tasks = self._daemon.state_dir / TASKS
        found = {str(path): os.lstat(path) for path in tasks.rglob("*")}
        files = {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode) for path, stat in found.items()}
        return self._daemon.pids(), files

    def check(self, refused: int, poke: Any) -> None:
        """See that nothing was done, and that the audit has as many refusals as there were attempts."""

        def look() -> bool:
            poke()
            assert self.audit.refused() >= refused, f"{self.audit.refused()} refusals of {refused} are in the audit"
            return True

        eventually(look, "the audit")
        assert self.audit.refused() == refused, self.audit.lines()[-3:]
        self.check_nothing_done()

    def check_nothing_done(self) -> None:
        assert self._look() == self._before
        assert not self._marker.exists()
