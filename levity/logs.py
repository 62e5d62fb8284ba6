"""A task's output, whole and once, also over broken connections. Runs in: client. Owns: one connection at a time.

The server sends a log from its beginning each time it is asked. So after a break as many bytes of each stream are
skipped as were handed on before; how the bytes are cut into frames may differ each time.
"""

from levity.connection import Connection, check_reply, connect
from levity.errors import ProtocolError, ServerUnreachable, Unavailable
from levity.patience import Deadline, Patience
from levity.protocol.frames import JSON, STDERR, STDOUT, Frame
from levity.protocol.messages import request_frame

__all__ = ["LogReader"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from levity.addresses import Address

    JsonObject = dict[str, Any]

NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_REQUEST = 1


class LogReader:
    """Reads one task's log; `timeout_s` bounds how long nothing may come, not how long all of it takes."""

    def __init__(self, address: "Address", timeout_s: float, params: "JsonObject") -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._request = request_frame(_REQUEST, "task.logs", params)
        # Bytes of each stream: handed on to the caller, and come over the present connection.
        self._yielded = dict.fromkeys(NAMES, 0)
        self._come = dict.fromkeys(NAMES, 0)

    def __repr__(self) -> str:
        return f"<LogReader {self._address}: {self._yielded[STDOUT]} B of stdout, {self._yielded[STDERR]} B of stderr>"

    def chunks(self) -> "Iterator[tuple[str, bytes]]":
        """Yield (stream name, bytes) until the server says that this was all."""
        patience = Patience(self._timeout_s)
        while True:
            before = sum(self._yielded.values())
            try:
                yield from self._replay(patience)
                return
            except (ServerUnreachable, Unavailable) as error:
                # Only new bytes count as getting on: a server that breaks at the same byte every time is given up on.
                if sum(self._yielded.values()) > before:
                    patience.renew(self._timeout_s)
                patience.wait(error)

    def _replay(self, patience: Patience) -> "Iterator[tuple[str, bytes]]":
        """Ask for the log once and yield what of it is new."""
        connection = connect(self._address, patience.deadline)
        patience.connected = True
        self._come = dict.fromkeys(NAMES, 0)
        try:
            connection.send(self._request, patience.deadline)
            while (frame := self._receive(connection)).kind != JSON:
                if fresh := self._fresh(frame):
                    yield NAMES[frame.kind], fresh
            self._check_end(frame)
        finally:
            connection.close()

    def _receive(self, connection: Connection) -> Frame:
        return connection.receive(Deadline(self._timeout_s))

    def _fresh(self, frame: Frame) -> bytes:
        """Return the part of an output frame that was not handed on before."""
        start = self._come[frame.kind]
        end = self._come[frame.kind] = start + len(frame.body)
        known = self._yielded[frame.kind]
        if end <= known:
            return b""
        self._yielded[frame.kind] = end
        return frame.body if start >= known else frame.body[known - start :]

    def _check_end(self, frame: Frame) -> None:
        reply = check_reply(frame, _REQUEST)
        if reply.error:
            raise reply.error
        for stream, name in NAMES.items():
            total = reply.result.get(name)
            if not isinstance(total, int):
                raise ProtocolError(f"levityd did not say how many bytes {name} has")
            # Also more than came this time: then bytes that were there before are gone.
            if self._come[stream] < max(total, self._yielded[stream]):
                wanted = max(total, self._yielded[stream])
                raise ProtocolError(f"the log is incomplete: {self._come[stream]} of {wanted} bytes of {name} came")
