"""The engine's end of the pipe to the front-end. Runs in: engine. Owns: the pipe.

While the outbox is over its cap no further request is read, so a front-end that is stopped costs bounded memory.
"""

import selectors
from collections.abc import Callable

from levity.errors import LevityError
from levity.protocol.frames import Frame, FrameDecoder
from levity.protocol.messages import Request, parse_request
from supervisor.engine.loop import Loop
from supervisor.ipc.frame_pipe import Pipe

__all__ = ["Channel"]

_OUTBOX_LIMIT = 4 * 1024 * 1024


class Channel:
    """Requests in, frames out. `on_lost` is called once, when the other end is gone.

    `on_nonsense` is called once when what comes is not what a front-end sends; nothing more is read or sent then.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_request: Callable[["Channel", Request], None],
        on_lost: Callable[["Channel"], None],
        on_nonsense: Callable[[LevityError], None],
    ) -> None:
        self._loop = loop
        self._pipe = Pipe(fd)
        self._on_request = on_request
        self._on_lost = on_lost
        self._on_nonsense = on_nonsense
        self._decoder = FrameDecoder()
        self.is_open = True
        loop.watch(fd, self._ready)

    def __repr__(self) -> str:
        return f"<Channel {self._pipe!r}, {'open' if self.is_open else 'closed'}>"

    def send(self, frame: bytes, fd: int = -1) -> None:
        """Send a frame as soon as there is room, with a descriptor, which is closed here then.

        A closed channel drops both: the front-end will ask again.
        """
        self._pipe.put(frame, fd)
        if self.is_open:
            self._flush()
        else:
            self._pipe.close()

    def take_descriptor(self) -> int:
        """Return the descriptor that came with the request that is being handled; -1 if none did."""
        return self._pipe.take_descriptor()

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
            self._refuse(error)
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._decoder.feed(data)
        while self.is_open and (request := self._next_request()) is not None:
            self._on_request(self, request)

    def _next_request(self) -> Request | None:
        try:
            frame = self._decoder.next_frame()
            return parse_request(frame.body) if isinstance(frame, Frame) else None
        except LevityError as error:
            self._refuse(error)
            return None

    def _refuse(self, error: LevityError) -> None:
        self.close()
        self._on_nonsense(error)

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
