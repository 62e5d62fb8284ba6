"""Frames: cut a byte stream into frames, and make them. Runs in: every process. Owns: nothing. Never: does I/O.

A frame is a 4-byte big-endian length (of all that follows), a 1-byte kind and a body. Kind 0 is a JSON object,
kinds 1 and 2 are bytes of a task's stdout and stderr led by their time: 8 bytes big-endian, nanoseconds since the
epoch.
"""

from levity.errors import ProtocolError

__all__ = [
    "CHUNK_LIMIT",
    "FRAME_LIMIT",
    "JSON",
    "NEED_DATA",
    "STDERR",
    "STDOUT",
    "UNAUTHENTICATED_FRAME_LIMIT",
    "Frame",
    "FrameDecoder",
    "chunk_head",
    "json_frame",
]

JSON, STDOUT, STDERR = 0, 1, 2
_KINDS = frozenset({JSON, STDOUT, STDERR})

# The largest request is a start: Linux takes 2 MiB of arguments and environment (a quarter of the 8 MiB stack), and a
# byte that is not UTF-8 takes six characters of JSON.
FRAME_LIMIT = 16 * 1024 * 1024
# How much a peer that has not proved who it is may make the other side hold.
UNAUTHENTICATED_FRAME_LIMIT = 16 * 1024
# The most output bytes in one frame: so many that a frame's own cost is nothing beside them.
CHUNK_LIMIT = 1024 * 1024

_HEAD = 5
_CHUNK_HEAD = _HEAD + 8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


class _NeedData:
    """The decoder has no whole frame yet."""

    def __repr__(self) -> str:
        return "NEED_DATA"


NEED_DATA: "Final" = _NeedData()


class Frame:
    """One decoded frame: its kind, its body, and for output its time in nanoseconds since the epoch (else 0)."""

    __slots__ = ("body", "kind", "time_ns")

    def __init__(self, kind: int, body: bytes, time_ns: int = 0) -> None:
        self.kind = kind
        self.body = body
        self.time_ns = time_ns

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        return (self.kind, self.body, self.time_ns) == (other.kind, other.body, other.time_ns)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Frame kind={self.kind} {len(self.body)} B>"


class FrameDecoder:
    """Turn received bytes into frames: `feed(chunk)`, then `next_frame()` until it is NEED_DATA.

    A length over `limit` raises ProtocolError before anything of that size is held, and so does an unknown kind;
    after that the stream is broken and stays so. `kinds` are others than those of clients, on other streams.
    """

    def __init__(self, limit: int = FRAME_LIMIT, kinds: "frozenset[int]" = _KINDS) -> None:
        self.limit = limit
        self._kinds = kinds
        self._buffer = bytearray()
        self._position = 0
        self._broken = ""

    def __repr__(self) -> str:
        return f"<FrameDecoder {self.pending} B pending>"

    @property
    def pending(self) -> int:
        """How many bytes are held: of an unfinished frame, and of frames not yet asked for."""
        return len(self._buffer) - self._position

    def feed(self, chunk: "bytes | bytearray | memoryview") -> None:
        """Take bytes as they came."""
        self._buffer += chunk

    def next_frame(self) -> "Frame | _NeedData":
        """Return the next whole frame, or NEED_DATA."""
        if self._broken:
            raise ProtocolError(self._broken)
        available = self.pending
        if available < 4:
            return self._need_data()
        start = self._position
        length = int.from_bytes(self._buffer[start : start + 4], "big")
        if not 1 <= length <= self.limit:
            raise self._break(f"a frame of {length} bytes (the limit is {self.limit})")
        if available >= _HEAD and self._buffer[start + 4] not in self._kinds:
            raise self._break(f"a frame of unknown kind {self._buffer[start + 4]}")
        if available < 4 + length:
            return self._need_data()
        self._position = start + 4 + length
        return self._parse(start, self._position)

    def take_rest(self) -> bytes:
        """Return all bytes that are held, and hold none."""
        rest = bytes(self._buffer[self._position :])
        self._buffer.clear()
        self._position = 0
        return rest

    def _parse(self, start: int, end: int) -> Frame:
        kind = self._buffer[start + 4]
        if kind not in (STDOUT, STDERR):
            return Frame(kind, bytes(self._buffer[start + _HEAD : end]))
        if end - start < _CHUNK_HEAD:
            raise self._break("an output frame without its time")
        time_ns = int.from_bytes(self._buffer[start + _HEAD : start + _CHUNK_HEAD], "big")
        return Frame(kind, bytes(self._buffer[start + _CHUNK_HEAD : end]), time_ns)

    def _need_data(self) -> _NeedData:
        # The front is cut off only here, once a feed: so many small frames do not move the rest each time.
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        return NEED_DATA

    def _break(self, why: str) -> ProtocolError:
        self._broken = f"not levity's protocol: {why}"
        self._buffer.clear()
        self._position = 0
        return ProtocolError(self._broken)


def json_frame(body: bytes) -> bytes:
    """Return a frame of kind 0 around an encoded JSON object."""
    return (len(body) + 1).to_bytes(4, "big") + bytes((JSON,)) + body


def chunk_head(stream: int, time_ns: int, length: int) -> bytes:
    """Return the head of a frame with `length` bytes of `stream` (STDOUT or STDERR)."""
    return (length + 9).to_bytes(4, "big") + bytes((stream,)) + time_ns.to_bytes(8, "big")
