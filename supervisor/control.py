"""What the arbiter and its children say to each other. Runs in: arbiter, engine, front-end. Owns: its end, descriptors.

JSON objects in frames, and a descriptor with "peer". An end of file means that the other side is gone. The front-end
talks to strangers and may be somebody else's: so nothing here waits for the rest of a message, or for room to send one.
"""

import os
import select
from collections import deque
from multiprocessing.connection import Connection

from levity.errors import ProtocolError
from levity.protocol.frames import STRANGER_FRAME_LIMIT, Frame, FrameDecoder, json_frame
from levity.protocol.messages import dump_object, parse_object
from supervisor.pipe import Pipe
from supervisor.spool.records import JsonObject

__all__ = ["Control"]


class Control:
    """One end; it takes over that of `connection`, which is closed."""

    def __init__(self, connection: Connection) -> None:
        self._pipe = Pipe(os.dup(connection.fileno()))
        connection.close()
        self._decoder = FrameDecoder(STRANGER_FRAME_LIMIT)
        self._words: deque[JsonObject] = deque()

    def __repr__(self) -> str:
        return f"<Control {self._pipe!r}>"

    @property
    def is_stuck(self) -> bool:
        """Whether the other side has left unread what the kernel takes of it: hundreds of words."""
        return self._pipe.outbox_bytes > 0

    def fileno(self) -> int:
        """Return the descriptor; -1 once it is closed."""
        return self._pipe.fileno()

    def tell(self, fd: int = -1, **word: object) -> None:
        """Say something, with a descriptor, which is closed here then. If the other side is gone, that shows soon."""
        self._pipe.put(json_frame(dump_object(word)), fd)
        try:
            self._pipe.flush()
        except OSError:
            pass

    def receive(self) -> list[JsonObject]:
        """Return what has been said by now, without waiting; EOFError at the end, and for what nobody of ours says."""
        try:
            data = self._pipe.receive()
            self._decoder.feed(data)
            words = []
            while isinstance(frame := self._decoder.next_frame(), Frame):
                words.append(parse_object(frame.body))
        except BlockingIOError:
            return []
        except (OSError, ProtocolError):
            raise EOFError from None
        if not data:
            raise EOFError
        return words

    def wait(self) -> JsonObject:
        """Return the next word, and wait for it; {} when the other side is gone."""
        try:
            while not self._words:
                poller = select.poll()
                poller.register(self._pipe, select.POLLIN)
                poller.poll()
                self._words.extend(self.receive())
        except EOFError:
            return {}
        return self._words.popleft()

    def take_descriptor(self) -> int:
        """Return the descriptor that came with the word that is acted on, which is the caller's now; -1: none."""
        return self._pipe.take_descriptor()

    def close(self) -> None:
        """Close it."""
        self._pipe.close()
