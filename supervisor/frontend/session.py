"""One client's connection. Runs in: front-end, a thread each. Owns: the client's socket.

Nothing is acted on before it is known whose it is, and then only whole frames are. The first bytes of any other
protocol are a length over the limit, so a stray HTTP or TLS client is dropped at its first four bytes.
"""

import socket
import time
from collections.abc import Callable

from levity.errors import AuthenticationError, InvalidRequest, LevityError, ProtocolError, Unavailable, UnknownMethod
from levity.protocol.frames import UNAUTHENTICATED_FRAME_LIMIT, Frame, FrameDecoder
from levity.protocol.messages import error_frame, parse_request, result_frame
from supervisor.frontend.admission.handshake import Caller, StrangerError
from supervisor.frontend.client_socket import Wire
from supervisor.frontend.operations.log_params import parse_log_request
from supervisor.frontend.operations.stdin import store_input
from supervisor.frontend.operations.wait import ENGINE_S, wait_for_tasks
from supervisor.frontend.shared import Services
from supervisor.spool.records import JsonObject

__all__ = ["Session"]

# A client that connects has something to say: the first request must be here soon, and one that is begun must be
# finished.
_FIRST_REQUEST_S = 10.0
_REST_OF_REQUEST_S = 30.0
_READ_SIZE = 64 * 1024


class Session:
    """The dialogue with one client: `run` returns when either side has had enough; `drop` ends it from elsewhere.

    `is_answering`: it is at a request that will be answered soon, unlike one that waits for a task. `peer` is where the
    client is, for the audit, and `source` whom its failures are counted for.
    """

    def __init__(self, connection: socket.socket, peer: str, source: str | None, services: Services) -> None:
        self.source = source
        self._wire = Wire(connection)
        self._peer = peer
        self._services = services
        self._decoder = FrameDecoder(UNAUTHENTICATED_FRAME_LIMIT)
        self._caller = Caller("", "", "")
        # All that a client can ask for. What is not done here is the engine's, which has a table of its own.
        self._served: dict[str, Callable[[JsonObject], JsonObject] | None] = {
            "task.start": None,
            "task.query": None,
            "task.signal": None,
            "task.list": None,
            "task.logs": self._logs,
            "task.stdin": self._stdin,
            "task.wait": self._wait,
            "server.info": None,
        }
        self._requests = 0
        self.is_answering = False

    def __repr__(self) -> str:
        return f"<Session {self._caller.user or 'stranger'} at {self._peer}, {self._requests} requests>"

    def drop(self) -> None:
        """Break the connection, from any thread."""
        self._wire.drop()

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()

    def run(self) -> None:
        """Find out who it is and greet, then answer requests in the order in which they come."""
        gate = self._services.gate
        try:
            self._caller = self._services.door.admit(self._wire, self._decoder, self._peer)
        except StrangerError as error:
            if error.is_failure:
                gate.failed(self.source)
            return
        try:
            if gate.known(self, _counted(self._caller.user), is_exempt=self._caller.role == "admin"):
                self._talk()
            else:
                self._send(error_frame(None, Unavailable(f"{self._caller.user} has too many connections; close some")))
        except OSError:
            pass  # The client is gone, or too slow: its tasks are none the worse for it.

    def _talk(self) -> None:
        try:
            while (frame := self._next_frame()) is not None:
                self._requests += 1
                self.is_answering = True
                self._answer(frame)
                self.is_answering = False
        except ProtocolError as error:
            self._send(error_frame(None, error))
        except AuthenticationError:
            pass  # It was let in by what does not hold any more. If it connects again it will hear why, or be let in.

    def _next_frame(self) -> Frame | None:
        """Return the next frame; None when the client has closed its side."""
        deadline = time.monotonic() + _FIRST_REQUEST_S if not self._requests else None
        while not isinstance(frame := self._decoder.next_frame(), Frame):
            if self._decoder.pending and deadline is None:
                deadline = time.monotonic() + _REST_OF_REQUEST_S
            connection = self._wire.connection
            connection.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
            data = connection.recv(_READ_SIZE)
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
            if request.method not in self._served:
                raise UnknownMethod(
                    f"unknown operation {request.method[:64]!r}; `levity info` says which levityd it is"
                )
            serve = self._served[request.method]
            result = serve(request.params) if serve else self._call(request.method, request.params)
            self._send(result_frame(request.id, result))
        except AuthenticationError:
            raise
        except LevityError as error:
            self._send(error_frame(request.id, error))

    def _call(self, method: str, params: JsonObject) -> JsonObject:
        return self._services.link.call(method, params, ENGINE_S, auth=self._caller.ticket)

    def _check(self) -> None:
        """AuthenticationError if the client would not be let in any more."""
        self._call("auth.check", {})

    def _borrow(self, method: str, params: JsonObject) -> tuple[str, int]:
        """Return a task's id and its directory, which the engine opens for those who may do this with it."""
        wanted = {"id": params.get("id"), "for": method}
        found, fd = self._services.link.fetch("spool.open", wanted, ENGINE_S, auth=self._caller.ticket)
        return found["id"], fd

    def _logs(self, params: JsonObject) -> JsonObject:
        log = parse_log_request(params, time.time_ns())
        task_id, directory_fd = self._borrow("task.logs", params)
        self.is_answering = not log.follow
        reply = self._services.logs.send(self._wire, task_id, directory_fd, log, self._check)
        if log.follow and reply["over"]:
            # Whoever has followed a task to its end and then asks for its state shall find that it is over.
            self._wait({"ids": [task_id], "heartbeat_s": log.heartbeat_s})
        return reply

    def _stdin(self, params: JsonObject) -> JsonObject:
        self.is_answering = False

        def ask() -> JsonObject:
            return self._call("task.stdin", params)

        def borrow() -> int:
            return self._borrow("task.stdin", params)[1]

        return store_input(self._wire, self._services.changes, params, ask, borrow)

    def _wait(self, params: JsonObject) -> JsonObject:
        self.is_answering = False
        return wait_for_tasks(self._wire, self._services.link, params, self._caller.ticket)

    def _send(self, frame: bytes) -> None:
        self._wire.send(frame)


def _counted(user: str) -> str:
    """Return for whom a user's connections are counted: all who have no account are one, for one may have many ids."""
    return "uid:" if user.startswith("uid:") else user
