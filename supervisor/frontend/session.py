"""One client's connection. Runs in: front-end, a thread each. Owns: the client's socket.

Nothing is acted on before a whole frame is there; the first bytes of any other protocol are a length over the limit,
so a stray HTTP or TLS client is dropped at its first four bytes.
"""

import os
import socket
import time
from collections.abc import Callable

from levity.errors import InvalidRequest, LevityError, ProtocolError
from levity.protocol.frames import Frame, FrameDecoder
from levity.protocol.messages import (
    PROTOCOL_VERSION,
    Request,
    error_frame,
    notification_frame,
    parse_request,
    result_frame,
)
from levity.version import __version__
from supervisor.frontend.engine_link import EngineLink
from supervisor.frontend.logs import send_logs
from supervisor.spool.records import JsonObject

__all__ = ["Session"]

# A client that connects has something to say: the first request must be here soon, and one that is begun must be
# finished.
_FIRST_REQUEST_S = 10.0
_REST_OF_REQUEST_S = 30.0
# A client that takes nothing for so long is gone for good.
_SEND_STALL_S = 300.0
_ENGINE_S = 60.0
_READ_SIZE = 64 * 1024


class Session:
    """The dialogue with one client: `run` returns when either side has had enough."""

    def __init__(self, connection: socket.socket, link: EngineLink) -> None:
        self._connection = connection
        self._link = link
        self._decoder = FrameDecoder()
        self._served: dict[str, Callable[[Request], None]] = {"task.logs": self._logs}
        self._requests = 0
        self.is_answering = False

    def __repr__(self) -> str:
        return f"<Session {self._requests} requests, {self._decoder!r}>"

    def run(self) -> None:
        """Greet, then answer requests in the order in which they come."""
        nonce = os.urandom(32).hex()
        hello = {"server": f"levityd/{__version__}", "protocol": PROTOCOL_VERSION, "nonce": nonce}
        try:
            self._send(notification_frame("hello", hello))
            try:
                while (frame := self._next_frame()) is not None:
                    self._requests += 1
                    self.is_answering = True
                    self._answer(frame)
                    self.is_answering = False
            except ProtocolError as error:
                self._send(error_frame(None, error))
        except OSError:
            pass  # The client is gone, or too slow: its tasks are none the worse for it.

    def _next_frame(self) -> Frame | None:
        """Return the next frame; None when the client has closed its side."""
        deadline = time.monotonic() + _FIRST_REQUEST_S if not self._requests else None
        while not isinstance(frame := self._decoder.next_frame(), Frame):
            if self._decoder.pending and deadline is None:
                deadline = time.monotonic() + _REST_OF_REQUEST_S
            self._connection.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
            data = self._connection.recv(_READ_SIZE)
            if not data:
                return None
            self._decoder.feed(data)
        return frame

    def _answer(self, frame: Frame) -> None:
        try:
            request = parse_request(frame.body)
        except InvalidRequest as error:
            self._send(error_frame(None, error))
            return
        try:
            if request.method in self._served:
                self._served[request.method](request)
            else:
                self._send(result_frame(request.id, self._relay(request)))
        except LevityError as error:
            self._send(error_frame(request.id, error))

    def _relay(self, request: Request) -> JsonObject:
        # Names the engine does not know are refused there: one table of operations, in one place.
        return self._link.call(request.method, request.params, _ENGINE_S)

    def _logs(self, request: Request) -> None:
        record = self._link.call("task.query", {"id": request.params.get("id")}, _ENGINE_S)
        self._connection.settimeout(_SEND_STALL_S)
        self._send(result_frame(request.id, send_logs(self._connection, record)))

    def _send(self, frame: bytes) -> None:
        self._connection.settimeout(_SEND_STALL_S)
        self._connection.sendall(frame)
