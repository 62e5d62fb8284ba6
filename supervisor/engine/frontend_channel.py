"""The engine's end of the pipe to the front-end. Runs in: engine. Owns: the pipe.

While the outbox is over its cap no further request is read, so a front-end that is stopped costs bounded memory.

A whole envelope that is not understood is ignored, with a line in the log. Only a stream that cannot be read any more
ends the channel: a length over the limit, an unknown kind of frame, a descriptor that is lost or that nothing claims.
"""

import os
import selectors
from collections.abc import Callable

from levity.errors import LevityError
from levity.protocol.frames import Frame
from supervisor.engine.loop import Loop
from supervisor.engine.operations.request import EngineRequest
from supervisor.ipc.envelope import Envelope, carries_descriptor, envelope_decoder, envelope_frame, open_envelope
from supervisor.ipc.frame_pipe import Pipe
from supervisor.ipc.reply import reply_body
from supervisor.log import SparseLog
from supervisor.spool.records import JsonObject

__all__ = ["FrontendChannel"]

_OUTBOX_LIMIT = 4 * 1024 * 1024


class FrontendChannel:
    """Requests in, replies out.

    `on_request` gets each request with its descriptor (-1: none), which it closes. `on_lost` is called once, when the
    front-end is gone; `on_unreadable` once, when the stream cannot be read: nothing more is read or sent then.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_request: Callable[["FrontendChannel", EngineRequest, int], None],
        on_lost: Callable[["FrontendChannel"], None],
        on_unreadable: Callable[[LevityError], None],
    ) -> None:
        self._loop = loop
        self._pipe = Pipe(fd)
        self._on_request = on_request
        self._on_lost = on_lost
        self._on_unreadable = on_unreadable
        self._decoder = envelope_decoder()
        self._log = SparseLog()
        self.is_open = True
        loop.watch(fd, self._ready)

    def __repr__(self) -> str:
        return f"<FrontendChannel {self._pipe!r}, {'open' if self.is_open else 'closed'}>"

    def reply(self, request: EngineRequest, answer: JsonObject | LevityError, fd: int = -1) -> None:
        """Answer a request as soon as there is room, with a descriptor, which is closed here then.

        A closed channel drops both: the front-end will ask again.
        """
        code = answer.code if isinstance(answer, LevityError) else None
        envelope = Envelope("reply", request.number, reply_body(request.id, answer), error=code)
        self._pipe.put(envelope_frame(envelope, has_fd=fd >= 0), fd)
        if self.is_open:
            self._flush()
        else:
            self._pipe.close()

    def close(self) -> None:
        """Close the pipe; `on_lost` is not called any more."""
        if self.is_open:
            self.is_open = False
            self._loop.forget(self._pipe.fileno())
            self._pipe.close()

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and self.is_open:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._pipe.receive()
        except BlockingIOError:
            return
        except LevityError as error:
            self._give_up(error)
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._decoder.feed(data)
        while self.is_open and (frame := self._next_frame()) is not None:
            self._take(frame)

    def _next_frame(self) -> Frame | None:
        try:
            frame = self._decoder.next_frame()
        except LevityError as error:
            self._give_up(error)
            return None
        return frame if isinstance(frame, Frame) else None

    def _take(self, frame: Frame) -> None:
        fd = self._pipe.take_descriptor() if carries_descriptor(frame.body) else -1
        try:
            request = EngineRequest.from_envelope(open_envelope(frame.body))
        except LevityError as error:
            if fd >= 0:
                os.close(fd)
            self._log.log(f"levityd: engine: ignored something of the front-end's: {error.message[:200]}")
            return
        self._on_request(self, request, fd)

    def _give_up(self, error: LevityError) -> None:
        self.close()
        self._on_unreadable(error)

    def _flush(self) -> None:
        try:
            self._pipe.flush()
        except OSError:
            self._lose()
            return
        wanted = selectors.EVENT_WRITE if self._pipe.outbox_bytes else 0
        if self._pipe.outbox_bytes < _OUTBOX_LIMIT:
            wanted |= selectors.EVENT_READ
        self._loop.watch(self._pipe.fileno(), self._ready, wanted)

    def _lose(self) -> None:
        if self.is_open:
            self.close()
            self._on_lost(self)
