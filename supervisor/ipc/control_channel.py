"""What the arbiter and its children say to each other. Runs in: arbiter, engine, front-end. Owns: its end, descriptors.

Messages are JSON objects in frames: {"do": VERB, ...}, and "fd" if a descriptor comes along. A receiver ignores a
message that it does not understand: another verb, a value that makes no sense, a frame that holds no such object. An
end of file means that the other side is gone. The front-end talks to unauthenticated peers and may be an attacker's:
so nothing here waits for the rest of a message, or for room to send one.
"""

import os
import select
from collections import deque
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

from levity.errors import ProtocolError
from levity.protocol.frames import UNAUTHENTICATED_FRAME_LIMIT, Frame, FrameDecoder, json_frame
from levity.protocol.messages import dump_object, parse_object
from supervisor.ipc.frame_pipe import Pipe
from supervisor.spool.records import JsonObject

__all__ = ["ControlChannel", "Handlers", "Message"]


class Message:
    """One message: its verb, the whole object as `values`, and the descriptor that came along, -1 for none."""

    __slots__ = ("fd", "values", "verb")

    def __init__(self, verb: str, values: JsonObject, fd: int = -1) -> None:
        self.verb = verb
        self.values = values
        self.fd = fd

    def __repr__(self) -> str:
        return f"<Message {self.verb}{' with a descriptor' if self.fd >= 0 else ''}>"

    def take_descriptor(self) -> int:
        """Return the descriptor, which is the caller's to close from now on; -1 for none."""
        fd, self.fd = self.fd, -1
        return fd


# What to do on each verb that the receiver knows.
Handlers = Mapping[str, Callable[[Message], None]]


class ControlChannel:
    """One end; it takes over that of `connection`, which is closed."""

    def __init__(self, connection: Connection) -> None:
        self._pipe = Pipe(os.dup(connection.fileno()))
        connection.close()
        self._decoder = FrameDecoder(UNAUTHENTICATED_FRAME_LIMIT)
        self._messages: deque[Message] = deque()

    def __repr__(self) -> str:
        return f"<ControlChannel {self._pipe!r}>"

    @property
    def is_stuck(self) -> bool:
        """Whether the other side has left unread what the kernel takes of it: hundreds of messages."""
        return self._pipe.outbox_bytes > 0

    def fileno(self) -> int:
        """Return the descriptor; -1 once it is closed."""
        return self._pipe.fileno()

    def send(self, verb: str, fd: int = -1, **values: object) -> None:
        """Send a message, with a descriptor, which is closed here then. If the other side is gone, that shows soon."""
        message: JsonObject = {"do": verb, **values}
        if fd >= 0:
            message["fd"] = True
        self._pipe.put(json_frame(dump_object(message)), fd)
        try:
            self._pipe.flush()
        except OSError:
            pass

    def receive(self) -> list[Message]:
        """Return the messages that are whole by now, without waiting.

        EOFError when the other side is gone, or the stream can no longer be cut into frames.
        """
        messages: list[Message] = []
        try:
            data = self._pipe.receive()
            self._decoder.feed(data)
            while isinstance(frame := self._decoder.next_frame(), Frame):
                if (message := self._parse(frame)) is not None:
                    messages.append(message)
        except BlockingIOError:
            return []
        except (OSError, ProtocolError):
            self.dispatch(messages, {})  # Their descriptors belong to no one else any more.
            raise EOFError from None
        if not data:
            raise EOFError
        return messages

    def _parse(self, frame: Frame) -> Message | None:
        try:
            values = parse_object(frame.body)
        except ProtocolError:
            return None
        # Also of a message that is not understood: descriptors come in the order of the messages that speak of them.
        fd = self._pipe.take_descriptor() if values.get("fd") is True else -1
        verb = values.get("do")
        return Message(verb if isinstance(verb, str) else "", values, fd)

    def dispatch(self, messages: list[Message], handlers: Handlers) -> None:
        """Hand each message to the handler of its verb. One without a handler changes nothing."""
        for message in messages:
            try:
                if (handler := handlers.get(message.verb)) is not None:
                    handler(message)
            finally:
                if message.fd >= 0:
                    os.close(message.take_descriptor())

    def wait(self) -> Message | None:
        """Return the next message, and wait for it; None when the other side is gone."""
        try:
            while not self._messages:
                poller = select.poll()
                poller.register(self._pipe, select.POLLIN)
                poller.poll()
                self._messages.extend(self.receive())
        except EOFError:
            return None
        return self._messages.popleft()

    def close(self) -> None:
        """Close it."""
        self._pipe.close()
