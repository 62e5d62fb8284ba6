"""Make JSON of a log, an object a chunk. Runs in: client. Owns: nothing. Never: does I/O."""

from levity.protocol.messages import dump_object
from levity.timestamps import rfc3339

__all__ = ["JsonRenderer"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from levity.operations.logs import LogChunk

    JsonObject = dict[str, Any]


class JsonRenderer:
    """Makes JSON lines of one task's log: text if the bytes are UTF-8, else base64.

    If a chunk ends in the middle of a character, its bytes wait for the stream's next chunk.
    """

    def __init__(self) -> None:
        # By stream: the bytes of a cut character, and the chunk that they came in.
        self._cut: dict[str, tuple[LogChunk, bytes]] = {}

    def __repr__(self) -> str:
        return f"<JsonRenderer, cut: {self._cut}>"

    def feed(self, chunk: "LogChunk") -> bytes:
        """Return the lines for `chunk`."""
        kept = self._cut.pop(chunk.stream, None)
        if not chunk.data:
            name, count = ("dropped", chunk.dropped) if chunk.dropped else ("unordered", chunk.unordered)
            if chunk.is_lost:
                name = "lost"
            rest = _output(*kept) if kept and chunk.dropped else b""
            if kept and not chunk.dropped:
                self._cut[chunk.stream] = kept
            return rest + _record(chunk, {name: count})
        # A character that began in an earlier chunk has the time of that chunk.
        origin, data = (kept[0], kept[1] + chunk.data) if kept else (chunk, chunk.data)
        whole_to = _end_of_whole(data)
        if whole_to < len(data):
            self._cut[chunk.stream] = (chunk if whole_to else origin, data[whole_to:])
        return _output(origin, data[:whole_to]) if whole_to else b""

    def finish(self) -> "Iterator[bytes]":
        """Yield the lines for characters that stay cut."""
        for chunk, data in self._cut.values():
            yield _output(chunk, data)
        self._cut = {}


def _end_of_whole(data: bytes) -> int:
    """Return the beginning of a last character that the next bytes may complete; the end if there is none."""
    # Its first byte is one of the last three.
    for start in range(len(data) - 1, max(len(data) - 4, -1), -1):
        byte = data[start]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return start if start + length > len(data) and _may_go_on(data[start:]) else len(data)
    return len(data)


def _may_go_on(beginning: bytes) -> bool:
    try:
        beginning.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start == 0
    return False


def _output(chunk: "LogChunk", data: bytes) -> bytes:
    time: JsonObject = {"time": rfc3339(chunk.time_ns) if chunk.time_ns else None}
    try:
        return _record(chunk, time | {"text": data.decode()})
    except UnicodeDecodeError:
        from binascii import b2a_base64

        return _record(chunk, time | {"base64": b2a_base64(data, newline=False).decode("ascii")})


def _record(chunk: "LogChunk", more: "JsonObject") -> bytes:
    return dump_object({"task": chunk.task_id, "stream": chunk.stream} | more) + b"\n"
