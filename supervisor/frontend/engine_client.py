"""The front-end's end of the pipe to the engine. Runs in: front-end, all threads. Owns: the pipe and what waits for it.

Requests in flight are kept until they are answered. When the engine dies, they wait for the next one and are sent
again: every request is idempotent, so that is safe, and no client notices.
"""

import itertools
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from levity.errors import InternalError, InvalidRequest, LevityError, Unavailable
from levity.protocol.frames import FRAME_LIMIT, Frame, FrameDecoder
from levity.protocol.messages import Reply, parse_reply, request_frame
from supervisor.hostos.descriptors import drain, self_pipe
from supervisor.ipc.frame_pipe import Pipe
from supervisor.log import say
from supervisor.spool.records import JsonObject

__all__ = ["EngineLink"]

# A request that is in flight each time the engine dies may be what kills it.
_SEND_LIMIT = 20
# What nobody waits for is dropped when the engine has not taken so much: strangers can have any number of it told.
_TOLD_LIMIT = 1024 * 1024
# A request is longer here than it came where a client did not escape what is not ASCII, and the engine's answer repeats
# it with some facts added: neither may be over the limit of a frame.
_REQUEST_LIMIT = FRAME_LIMIT - 64 * 1024


# Waits until a descriptor is readable, for so many seconds; whether it is.
Wait = Callable[[int, float], bool]


class _Call:
    """One request in flight; `make_frame()` is how it is to be sent now, `fd` is readable once its reply is there.

    `enclosed` is the descriptor that is sent along, `received` the one that came with the reply; -1: none.
    """

    __slots__ = ("enclosed", "fd", "make_frame", "received", "reply", "sent")

    def __init__(self, make_frame: Callable[[], bytes], fd: int, enclosed: int) -> None:
        self.make_frame = make_frame
        self.fd = fd
        self.enclosed = enclosed
        self.received = -1
        self.sent = 0
        self.reply: Reply | None = None

    def answer(self, reply: Reply) -> None:
        """Take the reply; a second one changes nothing."""
        if self.reply is None:
            self.reply = reply
            os.eventfd_write(self.fd, 1)


class EngineLink:
    """`call` from any thread; `connect` from the main thread whenever there is a new engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}  # guarded by self._lock
        self._pipe: Pipe | None = None  # guarded by self._lock; replaced by the thread that runs `run` only
        self._wake_read, self._wake_write = self_pipe()
        self._arrivals: deque[int] = deque()

    def __repr__(self) -> str:
        return f"<EngineLink {len(self._calls)} in flight, {'connected' if self._pipe else 'waiting'}>"

    def call(
        self,
        method: str,
        params: JsonObject | Callable[[], JsonObject],
        timeout_s: float,
        wait: Wait | None = None,
        *,
        auth: str = "",
        enclosed: int = -1,
    ) -> JsonObject:
        """Ask the engine and return its result; what it refused is raised, and Unavailable after `timeout_s`.

        `params` may be called for them, each time they are sent. `wait` waits in a way of its own, and may raise to
        give up. `auth` is the ticket of whoever it is asked for, `enclosed` a descriptor that is sent along.
        """
        reply, fd = self._exchange_one(method, params, timeout_s, wait, auth, enclosed)
        if fd >= 0:
            os.close(fd)
        return reply

    def fetch(self, method: str, params: JsonObject, timeout_s: float, *, auth: str = "") -> tuple[JsonObject, int]:
        """Ask for what comes with a descriptor, which is the caller's then (-1: none came); else as `call`."""
        return self._exchange_one(method, params, timeout_s, None, auth, -1)

    def _exchange_one(
        self,
        method: str,
        params: JsonObject | Callable[[], JsonObject],
        timeout_s: float,
        wait: Wait | None,
        auth: str,
        enclosed: int,
    ) -> tuple[JsonObject, int]:
        number = next(self._numbers)

        def make_frame() -> bytes:
            return request_frame(number, method, params() if callable(params) else params, auth, enclosed >= 0)

        frame = make_frame()
        if len(frame) > _REQUEST_LIMIT:
            raise InvalidRequest(f"a request of {len(frame)} bytes is too long; the limit is {_REQUEST_LIMIT}")
        call = _Call(make_frame if callable(params) else lambda: frame, os.eventfd(0, os.EFD_CLOEXEC), enclosed)
        is_answered = False
        try:
            with self._lock:
                self._calls[number] = call
                self._send(call)
            is_answered = (wait or _wait)(call.fd, timeout_s)
        finally:
            with self._lock:
                self._calls.pop(number, None)
                os.close(call.fd)
                if not is_answered and call.received >= 0:
                    os.close(call.received)
        if not is_answered:
            raise Unavailable(f"levityd's engine did not answer within {timeout_s:g} s; ask again")
        assert call.reply is not None
        if call.reply.error is not None:
            raise call.reply.error
        return call.reply.result, call.received

    def tell(self, method: str, params: JsonObject, *, auth: str = "") -> None:
        """Tell the engine something, if there is one that takes it, and do not wait for what it says to that."""
        with self._lock:
            if self._pipe is not None and self._pipe.outbox_bytes < _TOLD_LIMIT:
                self._put(request_frame(next(self._numbers), method, params, auth))

    def connect(self, fd: int) -> None:
        """Use a new pipe from now on."""
        self._arrivals.append(fd)
        self._wake()

    def run(self) -> None:
        """Move bytes between the pipe and the callers, for ever. Runs in a thread of its own."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 Without this thread nobody is answered: the arbiter shall notice.
            say(f"levityd: front-end: {type(error).__name__}: {error}")
        os._exit(1)

    def _run(self) -> None:
        decoder = FrameDecoder()
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
            if pipe_fd in ready and not self._exchange(decoder):
                self._disconnect()
            if self._arrivals:
                decoder = FrameDecoder()
                self._take_over(self._arrivals.popleft())

    def _exchange(self, decoder: FrameDecoder) -> bool:
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
                self._deliver(parse_reply(frame.body))
        except BlockingIOError:
            return True
        except OSError:
            return False
        except LevityError as error:
            # Our own engine does not send such a thing. Only a new front-end is given a new pipe: make room for it.
            say(f"levityd: front-end: the engine is not understood: {error.message[:200]}")
            os._exit(1)
        return True

    def _deliver(self, reply: Reply) -> None:
        assert self._pipe is not None
        fd = self._pipe.take_descriptor() if reply.has_fd else -1
        with self._lock:
            call = self._calls.get(reply.id) if isinstance(reply.id, int) else None
            if call is not None and call.reply is None:
                call.received, fd = fd, -1
                call.answer(reply)
        if fd >= 0:
            os.close(fd)  # Whoever asked for it has given up.

    def _disconnect(self) -> None:
        with self._lock:
            if self._pipe is not None:
                self._pipe.close()
            self._pipe = None

    def _take_over(self, fd: int) -> None:
        self._disconnect()
        with self._lock:
            self._pipe = Pipe(fd)
            for number, call in self._calls.items():
                if call.sent >= _SEND_LIMIT:
                    error = InternalError(f"levityd's engine died {call.sent} times over this request")
                    call.answer(Reply(number, {}, error))
                elif call.reply is None:
                    self._send(call)

    def _send(self, call: _Call) -> None:
        if self._pipe is not None:
            call.sent += 1
            try:
                # A copy: the caller's own may be closed, and its number given to another, before this one is sent.
                enclosed = os.dup(call.enclosed) if call.enclosed >= 0 else -1
            except OSError as error:
                call.answer(Reply(None, {}, Unavailable(f"levityd has too much to do ({error.strerror}); ask again")))
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


def _wait(fd: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))
