"""A scripted levityd for the client's tests: real sockets, one thread a connection, nothing behind it.

Runs in: tests. Owns: its listening socket, its threads and their sockets, its directory, all gone after `with`.
"""

import os
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from levity.channel_binding import endpoint_binding
from levity.errors import LevityError
from levity.protocol.frames import STDERR, STDOUT, Frame, FrameDecoder, chunk_head
from levity.protocol.messages import (
    Request,
    error_frame,
    notification_frame,
    parse_request,
    result_frame,
)
from levity.protocol.token_proof import (
    client_proof,
    format_token,
    is_nonce_of,
    is_same,
    server_proof,
)
from levity.tls import certificate_binding

__all__ = [
    "ID",
    "LIMIT_S",
    "Entry",
    "FakeServer",
    "Hangup",
    "Peer",
    "Script",
    "answering",
    "log_wire",
    "methods",
    "record",
    "requests_in",
    "serving_log",
]

JsonObject = dict[str, Any]
ID = "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42"
# Long enough for a loaded machine; a test that needs it is failing.
LIMIT_S = 20.0


class Hangup(Exception):
    """The client went away, as it may at any time."""


class Peer:
    """The server's end of one connection, driven by a script; `number` counts the connections from 0.

    `received` is every byte that came.
    """

    def __init__(self, sock: socket.socket, number: int, server: "FakeServer") -> None:
        self.number = number
        self.server = server
        self.received = b""
        self._socket = sock
        self._decoder = FrameDecoder()

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Hangup from error

    def hello(self, **changes: object) -> None:
        """Greet, and authenticate as the server's `auth` says."""
        known = {"server": "levityd/0.1.0", "user": "alice", "role": "user"}
        common = {"protocol": 1, "auth": self.server.auth}
        if self.server.auth != "token":
            self.send(notification_frame("hello", common | known | changes))
            return
        nonce = os.urandom(32)
        self.send(notification_frame("hello", common | {"server": "levityd", "nonce": nonce.hex()} | changes))
        self.authenticate(nonce, known)

    def authenticate(self, nonce: bytes, known: JsonObject) -> None:
        """Do the server's part of the proofs; AssertionError if the client's part is wrong."""
        begin = self.read_request()
        assert (begin.id, begin.method) == (0, "auth.begin")
        client_nonce = bytes.fromhex(begin.params["nonce"])
        key, binding = self.server.key, self.binding()
        assert is_nonce_of(key, client_nonce)
        self.reply(begin, {"proof": server_proof(key, nonce, client_nonce, binding).hex()})
        finish = self.read_request()
        assert (finish.id, finish.method) == (0, "auth.finish")
        assert is_same(client_proof(key, nonce, client_nonce, binding), bytes.fromhex(finish.params["proof"]))
        self.reply(finish, known)

    def binding(self) -> bytes:
        """Return what the proofs are bound to: the endpoint, or the server's certificate."""
        if self.server.certificate is not None:
            return certificate_binding(ssl.PEM_cert_to_DER_cert(self.server.certificate.decode("ascii")))
        host, port = self._socket.getsockname()[:2]
        return endpoint_binding(host, port)

    def read_request(self) -> Request:
        """Wait for the next message that asks something."""
        while not isinstance(frame := self._decoder.next_frame(), Frame):
            self._decoder.feed(self._receive())
        return parse_request(frame.body)

    def request(self) -> Request:
        """Wait for the next request."""
        request = self.read_request()
        self.server.requests.append(request)
        return request

    def reply(self, request: Request, answer: "JsonObject | LevityError") -> None:
        self.send(
            error_frame(request.id, answer) if isinstance(answer, LevityError) else result_frame(request.id, answer)
        )

    def notify(self, method: str, **params: object) -> None:
        self.send(notification_frame(method, params))

    def begin(self, stdout: int = 0, stderr: int = 0, id: str = ID) -> None:
        """Say where a log begins."""
        self.notify("log.start", id=id, stdout=stdout, stderr=stderr)

    def output(self, stream: int, data: bytes, time_ns: int = 1) -> None:
        self.send(chunk_head(stream, time_ns, len(data)) + data)

    def wait_gone(self) -> None:
        """Wait until the client closes."""
        while self._receive():
            pass

    def _receive(self) -> bytes:
        try:
            chunk = self._socket.recv(65536)
        except OSError as error:
            raise Hangup from error
        if not chunk:
            raise Hangup
        self.received += chunk
        return chunk


Script = Callable[[Peer], None]


class FakeServer:
    """Listens, and serves the n-th connection with the n-th script; the last one serves all that follow.

    A connection is closed when its script returns. `requests` are those received, of all connections, and `peers` the
    connections. It listens at a unix socket, or with a `host` at a TCP port, where `key` is its token's, which is in
    `token_file` and what `environ` names. With a TLS context for a server and its `certificate` (PEM) it speaks TLS.
    """

    def __init__(
        self,
        *scripts: Script,
        path: str = "",
        host: str = "",
        tls: ssl.SSLContext | None = None,
        certificate: bytes | None = None,
        auth: str = "",
    ) -> None:
        self._scripts = scripts
        # Short, for a socket's path.
        self._directory = tempfile.mkdtemp(prefix="fake-")
        self._path = path or ("" if host else f"{self._directory}/s")
        self._host = host
        self._port = 0
        self._tls = tls
        self.certificate = certificate
        self.auth = auth or ("token" if host else "peer")
        self.key = os.urandom(32)
        self.token_file = f"{self._directory}/token"
        with open(os.open(self.token_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(f"{format_token(self.key)}\n")
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []  # guarded by self._lock
        self._listener: socket.socket | None = None
        self.peers: list[Peer] = []  # guarded by self._lock
        self.requests: list[Request] = []
        self.failures: list[BaseException] = []

    @property
    def address(self) -> str:
        if self._path:
            return f"unix:{self._path}"
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    @property
    def environ(self) -> dict[str, str]:
        return {"LEVITY_TOKEN_FILE": self.token_file}

    @property
    def connections(self) -> int:
        return len(self.peers)

    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_listening()
        with self._lock:
            for sock in self._sockets:
                _shutdown(sock)
        for thread in self._threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), "a script of the fake server does not end"
        shutil.rmtree(self._directory, ignore_errors=True)
        assert not self.failures, self.failures

    def listen(self) -> None:
        """Listen, again at the same place after `stop_listening`."""
        if self._path:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self._path)
        else:
            listener = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
            self._port = listener.getsockname()[1]
        listener.listen()
        self._listener = listener
        self._spawn(self._accept, listener)

    def stop_listening(self) -> None:
        """Refuse connections from now on; those that are there go on."""
        if self._listener:
            # Wakes the thread in accept(), which close() alone does not.
            _shutdown(self._listener)
            self._listener.close()
            self._listener = None
            if self._path:
                os.unlink(self._path)

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(sock)
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            with self._wrapped(sock) as wrapped:
                with self._lock:
                    peer = Peer(wrapped, len(self.peers), self)
                    self.peers.append(peer)
                self._scripts[min(peer.number, len(self._scripts) - 1)](peer)
        except Hangup:
            pass
        except BaseException as error:  # noqa: BLE001 - told by __exit__, in the test's thread
            self.failures.append(error)

    def _wrapped(self, sock: socket.socket) -> socket.socket:
        if self._tls is None:
            return sock
        try:
            return self._tls.wrap_socket(sock, server_side=True)
        except OSError as error:
            sock.close()
            raise Hangup from error


def _shutdown(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def answering(*answers: "JsonObject | LevityError") -> Script:
    """Return a script that greets and gives these answers in turn, the last one for ever."""
    left = list(answers)

    def script(peer: Peer) -> None:
        peer.hello()
        while True:
            request = peer.request()
            peer.reply(request, left.pop(0) if len(left) > 1 else left[0])

    return script


# A piece of a log: its stream, and its bytes, or how many bytes are dropped there.
Entry = tuple[int, "bytes | int"]
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


def log_wire(entries: Sequence[Entry], request: Request, id: str = ID) -> bytes:
    """Return the whole answer to a `task.logs` from its beginning or from where it asks to go on."""
    begin = request.params.get("from") or {"stdout": 0, "stderr": 0}
    wire = [notification_frame("log.start", {"id": id, **begin})]
    end = {"stdout": 0, "stderr": 0}
    for stream, what in entries:
        name = _NAMES[stream]
        length = what if isinstance(what, int) else len(what)
        known = min(max(begin[name] - end[name], 0), length)
        end[name] += length
        if known == length:
            continue
        if isinstance(what, int):
            wire.append(notification_frame("log.dropped", {"stream": name, "bytes": what - known}))
        else:
            wire.append(chunk_head(stream, 1, length - known) + what[known:])
    return b"".join([*wire, result_frame(request.id, {**end, "over": True})])


def serving_log(entries: Sequence[Entry], break_after: int | None = None) -> Script:
    """Return a script that sends a log from where it is asked for; only its first `break_after` bytes, if given."""

    def script(peer: Peer) -> None:
        peer.hello()
        peer.send(log_wire(entries, peer.request())[:break_after])

    return script


def record(**changes: object) -> JsonObject:
    """Return a task's record as a levityd would send it."""
    return {
        "id": ID,
        "state": "Running",
        "argv": ["sleep", "60"],
        "cwd": None,
        "env": {},
        "exit_code": None,
        "signal": None,
        "reason": "",
        "grace_s": 5.0,
        "pid": 4711,
        "shim_pid": 4710,
        "accepted_at": "2026-11-23T20:09:00.000000001Z",
        "started_at": "2026-11-23T20:09:00.002000001Z",
        "signalled_at": None,
        "ended_at": None,
        "stdout_bytes": None,
        "stderr_bytes": None,
        "waiting": None,
        "stdin": False,
        "merged": False,
        "log_cap": 1 << 30,
    } | changes


def methods(data: bytes) -> list[str]:
    """Return which messages a client sent."""
    decoder = FrameDecoder()
    decoder.feed(data)
    found = []
    while isinstance(frame := decoder.next_frame(), Frame):
        found.append(parse_request(frame.body).method)
    assert decoder.pending == 0
    return found


def requests_in(data: bytes) -> Iterator[dict[str, Any]]:
    decoder = FrameDecoder()
    decoder.feed(data)
    while isinstance(frame := decoder.next_frame(), Frame):
        yield parse_request(frame.body).params
