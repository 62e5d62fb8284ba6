"""One client's connection. Runs in: front-end, a thread each. Owns: the client's socket.

No request is acted on before the client is known, and then only whole frames are. The first bytes of any other
protocol are a length over the limit, so a stray HTTP or TLS client is dropped at its first four bytes. The engine has
a table of operations of its own (supervisor/engine/operations/dispatch.py).
"""

import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from levity.errors import AuthenticationError, InvalidRequest, LevityError, ProtocolError, Unavailable, UnknownMethod
from levity.protocol.frames import UNAUTHENTICATED_FRAME_LIMIT, Frame, FrameDecoder, json_frame
from levity.protocol.messages import Request, error_frame, parse_request
from supervisor.frontend.admission.handshake import Caller, NotAdmittedError
from supervisor.frontend.client_socket import ClientSocket
from supervisor.frontend.operations.log_params import parse_log_params
from supervisor.frontend.operations.stdin import stdin
from supervisor.frontend.operations.wait import ENGINE_S, wait
from supervisor.frontend.shared import Shared
from supervisor.ipc.reply import reply_body
from supervisor.spool.records import JsonObject

__all__ = ["Session"]

# A client connects to ask something: its first request has to come soon. The rest of a request has to come soon, too.
_FIRST_REQUEST_S = 10.0
_REST_OF_REQUEST_S = 30.0
_READ_SIZE = 64 * 1024


class _Asked(NamedTuple):
    """One request of a client, and the `message` that it was read from."""

    request: Request
    message: bytes


class Session:
    """The dialogue with one client: `run` returns when either side ends it; `drop` ends it from elsewhere.

    `is_answering`: the current request will be answered soon, and does not wait for a task. `peer` is where the client
    is, for the audit. Failed authentications are counted for `source`.
    """

    def __init__(self, connection: socket.socket, peer: str, source: str | None, shared: Shared) -> None:
        self.source = source
        self._socket = ClientSocket(connection)
        self._peer = peer
        self._shared = shared
        self._decoder = FrameDecoder(UNAUTHENTICATED_FRAME_LIMIT)
        self._caller = Caller("", "", "")
        # All that a client can ask for. The engine looks up in a table of its own what is passed on.
        self._served: dict[str, Callable[[_Asked], bytes]] = {
            "task.start": self._pass_on,
            "task.query": self._pass_on,
            "task.signal": self._pass_on,
            "task.list": self._pass_on,
            "task.logs": self._logs,
            "task.stdin": self._stdin,
            "task.wait": self._wait,
            "server.info": self._pass_on,
        }
        self._requests = 0
        self.is_answering = False

    def __repr__(self) -> str:
        return f"<Session {self._caller.user or 'unauthenticated'} at {self._peer}, {self._requests} requests>"

    def drop(self) -> None:
        """Break the connection, from any thread."""
        self._socket.drop()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def run(self) -> None:
        """Authenticate the client and greet it, then answer its requests in the order in which they come."""
        limits = self._shared.limits
        try:
            self._caller = self._shared.handshake.admit(self._socket, self._decoder, self._peer)
        except NotAdmittedError as error:
            if error.is_failure:
                limits.failed(self.source)
            return
        try:
            if limits.known(self, _counted(self._caller.user), is_exempt=self._caller.role == "admin"):
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
            pass  # The ticket does not hold any more. If the client connects again it is let in, or hears why not.

    def _next_frame(self) -> Frame | None:
        """Return the next frame; None when the client has closed its side."""
        deadline = time.monotonic() + _FIRST_REQUEST_S if not self._requests else None
        while not isinstance(frame := self._decoder.next_frame(), Frame):
            if self._decoder.pending and deadline is None:
                deadline = time.monotonic() + _REST_OF_REQUEST_S
            connection = self._socket.connection
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
            reply = self._served[request.method](_Asked(request, frame.body))
        except AuthenticationError:
            raise
        except LevityError as error:
            reply = reply_body(request.id, error)
        self._send(json_frame(reply))

    def _pass_on(self, asked: "_Asked") -> bytes:
        return self._shared.engine.pass_on(asked.message, ENGINE_S, ticket=self._caller.ticket)

    def _check(self) -> None:
        """AuthenticationError if the client would not be let in any more."""
        self._shared.engine.call("auth.check", {}, ENGINE_S, ticket=self._caller.ticket)

    def _borrow(self, method: str, params: JsonObject) -> tuple[str, int]:
        """Return a task's id and its directory, which the engine opens if the client may do this with the task."""
        wanted = {"id": params.get("id"), "for": method}
        found, fd = self._shared.engine.fetch("spool.open", wanted, ENGINE_S, ticket=self._caller.ticket)
        return found["id"], fd

    def _logs(self, asked: "_Asked") -> bytes:
        params = parse_log_params(asked.request.params, time.time_ns())
        task_id, directory_fd = self._borrow("task.logs", asked.request.params)
        self.is_answering = not params.follow
        result = self._shared.logs.send(self._socket, task_id, directory_fd, params, self._check)
        if params.follow and result["over"]:
            # A client that has followed a task to its end and asks for its state next has to find that it is over.
            self._wait_for({"ids": [task_id], "heartbeat_s": params.heartbeat_s})
        return reply_body(asked.request.id, result)

    def _stdin(self, asked: "_Asked") -> bytes:
        self.is_answering = False

        def store() -> bytes:
            return self._pass_on(asked)

        def borrow() -> int:
            return self._borrow("task.stdin", asked.request.params)[1]

        return stdin(self._socket, self._shared.inotify, asked.request.params, store, borrow)

    def _wait(self, asked: "_Asked") -> bytes:
        self.is_answering = False
        return reply_body(asked.request.id, self._wait_for(asked.request.params))

    def _wait_for(self, params: JsonObject) -> JsonObject:
        return wait(self._socket, self._shared.engine, params, self._caller.ticket)

    def _send(self, frame: bytes) -> None:
        self._socket.send(frame)


def _counted(user: str) -> str:
    """Return for which user connections are counted: all ids without an account are one, for one may have many."""
    return "uid:" if user.startswith("uid:") else user
