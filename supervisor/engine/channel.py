"""The engine's end of the pipe to the front-end. Runs in: engine. Owns: the descriptor it is given.

The pipe is a byte stream: non-blocking, with levity's own frames, and a capped outbox. While the outbox is over its
cap no further request is read, so a front-end that is stopped costs bounded memory.
"""

import os
import selectors
from collections import deque
from collections.abc import Callable

from levity.protocol.frames import Frame, FrameDecoder
from levity.protocol.messages import Request, parse_request
from supervisor.engine.loop import Loop

__all__ = ["Channel"]

_OUTBOX_LIMIT = 4 * 1024 * 1024
_READ_SIZE = 256 * 1024


class Channel:
    """Requests in, frames out. `on_lost` is called once, when the other end is gone; nonsense is a LevityError."""

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_request: Callable[["Channel", Request], None],
        on_lost: Callable[["Channel"], None],
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_request = on_request
        self._on_lost = on_lost
        self._decoder = FrameDecoder()
        self._outbox: deque[memoryview] = deque()
        self._outbox_bytes = 0
        self.is_open = True
        os.set_blocking(fd, False)
        loop.watch(fd, self._ready)

    def __repr__(self) -> str:
        return f"<Channel {len(self._outbox)} out, {self._outbox_bytes} B, {'open' if self.is_open else 'closed'}>"

    def send(self, frame: bytes) -> None:
        """Send a frame as soon as there is room; a closed channel drops it (the front-end will ask again)."""
        if self.is_open:
            self._outbox.append(memoryview(frame))
            self._outbox_bytes += len(frame)
            self._flush()

    def close(self) -> None:
        """Close the descriptor; `on_lost` is not called any more."""
        if self.is_open:
            self.is_open = False
            self._loop.forget(self._fd)
            os.close(self._fd)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and self.is_open:
            self._receive()

    def _receive(self) -> None:
        try:
            data = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._decoder.feed(data)
        # Our own front-end sends nothing that is refused here. If it does, the error ends this engine: a new one gets
        # a new pipe, while nobody would make one for this.
        while self.is_open and isinstance(frame := self._decoder.next_frame(), Frame):
            self._on_request(self, parse_request(frame.body))

    def _flush(self) -> None:
        try:
            while self._outbox:
                done = os.write(self._fd, self._outbox[0])
                self._outbox_bytes -= done
                self._outbox[0] = self._outbox[0][done:]
                if not self._outbox[0]:
                    self._outbox.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._lose()
            return
        wanted = selectors.EVENT_WRITE if self._outbox else 0
        if self._outbox_bytes < _OUTBOX_LIMIT:
            wanted |= selectors.EVENT_READ
        self._loop.watch(self._fd, self._ready, wanted)

    def _lose(self) -> None:
        if self.is_open:
            self.close()
            self._on_lost(self)
