"""One client's connection. Runs in: front-end, a thread each. Owns: the client's socket.

Nothing is acted on before a whole frame is there; the first bytes of any other protocol are a length over the limit,
so a stray HTTP or TLS client is dropped at its first four bytes.
"""

import os
import socket
import time
from collections.abc import Callable

from levity.errors import InvalidRequest, LevityError, ProtocolError, UnknownMethod
from levity.protocol.frames import Frame, FrameDecoder
from levity.protocol.messages import (
    PROTOCOL_VERSION,
    error_frame,
    notification_frame,
    parse_request,
    result_frame,
)
from levity.version import __version__
from supervisor.frontend.inputs import parse_input
from supervisor.frontend.log_request import parse_log_request
from supervisor.frontend.services import Services
from supervisor.frontend.waiting import ENGINE_S, wait_for_tasks
from supervisor.frontend.wire import Wire
from supervisor.spool.records import JsonObject

__all__ = ["Session"]

# A client that connects has something to say: the first request must be here soon, and one that is begun must be
# finished.
_FIRST_REQUEST_S = 10.0
_REST_OF_REQUEST_S = 30.0
# What only the front-end itself may ask of the engine.
_OURS = frozenset({"task.unwait"})
_READ_SIZE = 64 * 1024


class Session:
    """The dialogue with one client: `run` returns when either side has had enough.

    `is_answering`: it is at a request that will be answered soon, unlike one that waits for a task.
    """

    def __init__(self, connection: socket.socket, services: Services) -> None:
        self._connection = connection
        self._wire = Wire(connection)
        self._services = services
        self._decoder = FrameDecoder()
        # What the front-end does itself; everything else it passes on.
        self._served: dict[str, Callable[[JsonObject], JsonObject]] = {
            "task.logs": self._logs,
            "task.stdin": self._stdin,
            "task.wait": self._wait,
        }
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
            if request.method in _OURS:
                raise UnknownMethod(f"{request.method} is not for clients")
            serve = self._served.get(request.method)
            # Names the engine does not know are refused there: one table of operations, in one place.
            result = serve(request.params) if serve else self._call(request.method, request.params)
            self._send(result_frame(request.id, result))
        except LevityError as error:
            self._send(error_frame(request.id, error))

    def _call(self, method: str, params: JsonObject) -> JsonObject:
        return self._services.link.call(method, params, ENGINE_S)

    def _record(self, params: JsonObject) -> JsonObject:
        return self._call("task.query", {"id": params.get("id")})

    def _logs(self, params: JsonObject) -> JsonObject:
        task_id = self._record(params)["id"]
        log = parse_log_request(params, time.time_ns())
        self.is_answering = not log.follow
        reply = self._services.logs.send(self._wire, task_id, log)
        if log.follow and reply["over"]:
            # Whoever has followed a task to its end and then asks for its state shall find that it is over.
            wait_for_tasks(self._wire, self._services.link, {"ids": [task_id], "heartbeat_s": log.heartbeat_s})
        return reply

    def _stdin(self, params: JsonObject) -> JsonObject:
        record = self._record(params)
        if not record.get("stdin"):
            raise InvalidRequest(f"task {record['id']} was started without an input to send to")
        self.is_answering = False
        reply = self._services.inputs.store(self._wire, record["id"], parse_input(params))
        self._call("task.stdin", {"id": record["id"]})
        return reply

    def _wait(self, params: JsonObject) -> JsonObject:
        self.is_answering = False
        return wait_for_tasks(self._wire, self._services.link, params)

    def _send(self, frame: bytes) -> None:
        self._wire.send(frame)
