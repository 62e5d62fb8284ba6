"""The front-end's end of the pipe to the engine. Runs in: front-end, all threads. Owns: the pipe and what waits for it.

Requests in flight are kept until they are answered. When the engine dies, they wait for the next one and are sent
again: every request is idempotent, so that is safe, and no client notices. How the next engine goes on with a start
that was accepted and not answered is in supervisor/engine/tasks/lifecycle.py.

A whole envelope that is not understood is ignored, with a line in the log. A stream that cannot be read any more ends
the front-end: only a new front-end is given a new pipe.
"""

import itertools
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from levity.errors import AuthenticationError, InternalError, InvalidRequest, LevityError, ProtocolError, Unavailable
from levity.protocol.frames import FRAME_LIMIT, Frame, FrameDecoder
from levity.protocol.messages import parse_reply, request_body
from supervisor.hostos.descriptors import drain, self_pipe
from supervisor.ipc.envelope import Envelope, carries_descriptor, envelope_decoder, envelope_frame, open_envelope
from supervisor.ipc.frame_pipe import Pipe
from supervisor.log import SparseLog, log
from supervisor.spool.records import JsonObject

__all__ = ["EngineClient"]

# A request that is in flight each time the engine dies may be what kills it.
_SEND_LIMIT = 20
# A request without a caller is dropped when the engine has left so much unread: an unauthenticated peer can cause any
# number of them.
_TOLD_LIMIT = 1024 * 1024

# Waits until a descriptor is readable, for so many seconds; whether it is.
Wait = Callable[[int, float], bool]
# The body of a reply for a client, the result of a request of the front-end's own, or a refusal.
Answer = bytes | JsonObject | LevityError


class _Call:
    """One request in flight; `make_frame()` is how it is to be sent now, `fd` is readable once it is answered.

    `is_clients`: a client's request, and the answer is for that client. `enclosed` is the descriptor that is sent
    along, `received` the one that came with the answer; -1: none.
    """

    __slots__ = ("answer", "enclosed", "fd", "is_clients", "make_frame", "received", "sent")

    def __init__(self, make_frame: Callable[[], bytes], enclosed: int = -1, *, is_clients: bool = False) -> None:
        self.make_frame = make_frame
        self.fd = os.eventfd(0, os.EFD_CLOEXEC)
        self.enclosed = enclosed
        self.is_clients = is_clients
        self.received = -1
        self.sent = 0
        self.answer: Answer | None = None

    def take(self, answer: Answer) -> None:
        """Take the answer; a second one changes nothing."""
        if self.answer is None:
            self.answer = answer
            os.eventfd_write(self.fd, 1)


class EngineClient:
    """`pass_on`, `call` and `fetch` from any thread; `connect` from the main thread whenever there is a new engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}  # guarded by self._lock
        self._pipe: Pipe | None = None  # guarded by self._lock; replaced by the thread that runs `run` only
        self._wake_read, self._wake_write = self_pipe()
        self._arrivals: deque[int] = deque()
        self._log = SparseLog()

    def __repr__(self) -> str:
        return f"<EngineClient {len(self._calls)} in flight, {'connected' if self._pipe else 'waiting'}>"

    def pass_on(self, message: bytes, timeout_s: float, *, ticket: str) -> bytes:
        """Send a client's request as it came; return the reply to it, the body of a frame for that client.

        AuthenticationError if the ticket does not hold any more; Unavailable after `timeout_s`.
        """
        number = next(self._numbers)
        frame = envelope_frame(Envelope("pass", number, message, ticket=ticket))
        answer = self._exchange(number, _Call(lambda: frame, is_clients=True), timeout_s, _wait)[0]
        assert isinstance(answer, bytes)
        return answer

    def call(
        self,
        method: str,
        params: JsonObject | Callable[[], JsonObject],
        timeout_s: float,
        wait: Wait | None = None,
        *,
        ticket: str = "",
        enclosed: int = -1,
    ) -> JsonObject:
        """Ask the engine and return its result; a refusal is raised, and Unavailable after `timeout_s`.

        `params` may be a function that returns them, called each time the request is sent. `wait` waits in a way of its
        own, and may raise to give up. `ticket` is that of the client on whose behalf this is, `enclosed` a descriptor
        that is sent along.
        """
        result, fd = self._ask(method, params, timeout_s, wait or _wait, ticket, enclosed)
        if fd >= 0:
            os.close(fd)
        return result

    def fetch(self, method: str, params: JsonObject, timeout_s: float, *, ticket: str = "") -> tuple[JsonObject, int]:
        """Do as `call`, for a result that comes with a descriptor, which is the caller's then (-1: none came)."""
        return self._ask(method, params, timeout_s, _wait, ticket, -1)

    def tell(self, method: str, params: JsonObject) -> None:
        """Send the engine a request, if there is an engine that takes it, and do not wait for the answer."""
        with self._lock:
            if self._pipe is not None and self._pipe.outbox_bytes < _TOLD_LIMIT:
                self._put(_own_frame(next(self._numbers), request_body(None, method, params)))

    def _ask(
        self,
        method: str,
        params: JsonObject | Callable[[], JsonObject],
        timeout_s: float,
        wait: Wait,
        ticket: str,
        enclosed: int,
    ) -> tuple[JsonObject, int]:
        number = next(self._numbers)

        def make_message() -> bytes:
            return request_body(None, method, params() if callable(params) else params)

        message = make_message()
        # Once: parameters that are made anew for the next engine may be a few bytes longer, for which there is room.
        if len(message) > FRAME_LIMIT:
            raise InvalidRequest(f"a request of {len(message)} bytes is too long; the limit is {FRAME_LIMIT}")

        def make_frame() -> bytes:
            return _own_frame(number, make_message() if callable(params) else message, ticket, has_fd=enclosed >= 0)

        call = _Call(make_frame, enclosed)
        result, fd = self._exchange(number, call, timeout_s, wait)
        assert isinstance(result, dict)
        return result, fd

    def _exchange(self, number: int, call: _Call, timeout_s: float, wait: Wait) -> tuple[Answer, int]:
        """Send a request and return its answer and descriptor; a refusal is raised."""
        is_answered = False
        try:
            with self._lock:
                self._calls[number] = call
                self._send(call)
            is_answered = wait(call.fd, timeout_s)
        finally:
            with self._lock:
                self._calls.pop(number, None)
                os.close(call.fd)
                if not is_answered and call.received >= 0:
                    os.close(call.received)
        if not is_answered:
            raise Unavailable(f"levityd's engine did not answer within {timeout_s:g} s; ask again")
        assert call.answer is not None
        if isinstance(call.answer, LevityError):
            raise call.answer
        return call.answer, call.received

    def connect(self, fd: int) -> None:
        """Use a new pipe from now on."""
        self._arrivals.append(fd)
        self._wake()

    def run(self) -> None:
        """Move bytes between the pipe and the callers, for ever. Runs in a thread of its own."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 Without this thread no client is answered: the arbiter has to notice.
            log(f"levityd: front-end: {type(error).__name__}: {error}")
        os._exit(1)

    def _run(self) -> None:
        decoder = envelope_decoder()
        while True:
            poller = select.poll()
            poller.register(self._wake_read, select.POLLIN)
            pipe_fd = -1
            if self._pipe is not None:
                pipe_fd = self._pipe.fileno()
                poller.register(pipe_fd, select.POLLIN | (select.POLLOUT if self._pipe.outbox_bytes else 0))
            ready = dict(poller.poll())
            if self._wake_read in ready:
                drain(self._wake_read)
            if pipe_fd in ready and not self._move_bytes(decoder):
                self._disconnect()
            if self._arrivals:
                decoder = envelope_decoder()
                self._take_over(self._arrivals.popleft())

    def _move_bytes(self, decoder: FrameDecoder) -> bool:
        """Read and write what is possible; False when the engine is gone."""
        assert self._pipe is not None
        try:
            with self._lock:
                self._pipe.flush()
            data = self._pipe.receive()
            if not data:
                return False
            decoder.feed(data)
            while isinstance(frame := decoder.next_frame(), Frame):
                self._take(frame)
        except BlockingIOError:
            return True
        except OSError:
            return False
        except ProtocolError as error:
            # Our own engine does not break the stream. Only a new front-end is given a new pipe: make room for it.
            log(f"levityd: front-end: the engine is not understood: {error.message[:200]}")
            os._exit(1)
        return True

    def _take(self, frame: Frame) -> None:
        """Deliver a reply to its caller; ignore any other envelope."""
        assert self._pipe is not None
        fd = self._pipe.take_descriptor() if carries_descriptor(frame.body) else -1
        try:
            fd = self._deliver(open_envelope(frame.body), fd)
        except ProtocolError as error:
            self._log.log(f"levityd: front-end: ignored something of the engine's: {error.message[:200]}")
        if fd >= 0:
            os.close(fd)

    def _deliver(self, envelope: Envelope, fd: int) -> int:
        """Give a reply to its caller; return the descriptor if it is not taken, because the caller has given up."""
        if envelope.do != "reply":
            raise ProtocolError(f"an envelope says to {envelope.do[:64]!r}")
        with self._lock:
            call = self._calls.get(envelope.number)
        if call is None:
            return fd
        answer = _clients_answer(envelope) if call.is_clients else _own_answer(envelope)
        with self._lock:
            if envelope.number in self._calls and call.answer is None:
                call.received, fd = fd, -1
                call.take(answer)
        return fd

    def _disconnect(self) -> None:
        with self._lock:
            if self._pipe is not None:
                self._pipe.close()
            self._pipe = None

    def _take_over(self, fd: int) -> None:
        self._disconnect()
        with self._lock:
            self._pipe = Pipe(fd)
            for call in self._calls.values():
                if call.sent >= _SEND_LIMIT:
                    call.take(InternalError(f"levityd's engine died {call.sent} times over this request"))
                elif call.answer is None:
                    self._send(call)

    def _send(self, call: _Call) -> None:
        if self._pipe is not None:
            call.sent += 1
            try:
                # A copy: the caller's own may be closed, and its number given to another, before this one is sent.
                enclosed = os.dup(call.enclosed) if call.enclosed >= 0 else -1
            except OSError as error:
                call.take(Unavailable(f"levityd has too much to do ({error.strerror}); ask again"))
                return
            self._put(call.make_frame(), enclosed)

    def _put(self, frame: bytes, fd: int = -1) -> None:
        if self._pipe is None:
            return
        is_first = not self._pipe.outbox_bytes
        self._pipe.put(frame, fd)
        if is_first:
            try:
                self._pipe.flush()
            except OSError:
                pass  # The end of file that follows tells.
        if self._pipe.outbox_bytes:
            self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"w")
        except BlockingIOError:
            pass


def _own_frame(number: int, message: bytes, ticket: str = "", *, has_fd: bool = False) -> bytes:
    """Return the frame of a request of the front-end's own."""
    return envelope_frame(Envelope("ask", number, message, ticket=ticket), has_fd=has_fd)


def _clients_answer(envelope: Envelope) -> Answer:
    """Return the reply as it is; but if the ticket does not hold any more, an error that ends the session."""
    if envelope.error == AuthenticationError.code:
        return AuthenticationError("the client is not known any more")
    return envelope.body


def _own_answer(envelope: Envelope) -> Answer:
    reply = parse_reply(envelope.body)
    return reply.result if reply.error is None else reply.error


def _wait(fd: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))
