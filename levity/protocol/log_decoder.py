"""Cut a log's bytes into frames, large ones into pieces. Runs in: client. Owns: nothing. Never: does I/O.

FrameDecoder holds a whole frame and copies it a few times. A log of gigabytes should cost neither that memory nor that
time.
"""

from levity.errors import ProtocolError
from levity.protocol.frames import FRAME_LIMIT, JSON, STDERR, STDOUT, Frame

__all__ = ["WHOLE_BYTES", "LogDecoder"]

# An output frame of up to so many bytes is handed out whole, so that one write of a task is not torn without need.
WHOLE_BYTES = 64 * 1024

_HEAD = 5
_CHUNK_HEAD = _HEAD + 8


class LogDecoder:
    """Turn received bytes into frames: `feed(chunk)` returns those that are ready.

    A piece of a large frame is a frame with the same kind and time. Refuses what FrameDecoder refuses.
    """

    def __init__(self, whole_bytes: int = WHOLE_BYTES) -> None:
        self._whole_bytes = whole_bytes
        # The beginning of a frame, and how many bytes of it are needed for the next step.
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._need = _HEAD
        # The frame that is handed out in pieces: how many of its bytes are still to come.
        self._left = 0
        self._kind = STDOUT
        self._time_ns = 0

    def __repr__(self) -> str:
        return f"<LogDecoder {self._held_bytes} B held, {self._left} B to come>"

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take bytes as they came, and return the frames and pieces that are now ready."""
        if self._held_bytes + len(chunk) < self._need and not self._left:
            self._hold(chunk)
            return []
        data = b"".join([*self._held, chunk]) if self._held else chunk
        self._held, self._held_bytes, self._need = [], 0, _HEAD
        frames: list[Frame] = []
        at = self._go_on(data, frames) if self._left else 0
        while (end := self._next(data, at, frames)) > at:
            at = end
        self._hold(data[at:])
        return frames

    def _hold(self, chunk: bytes) -> None:
        if chunk:
            self._held.append(chunk)
            self._held_bytes += len(chunk)

    def _go_on(self, data: bytes, frames: list[Frame]) -> int:
        """Hand out the bytes of the present frame that `data` begins with, and return their end."""
        end = min(self._left, len(data))
        self._left -= end
        # A slice of all bytes is no copy.
        frames.append(Frame(self._kind, data[:end], self._time_ns))
        return end

    def _next(self, data: bytes, at: int, frames: list[Frame]) -> int:
        """Hand out the frame that begins at `at`, or its first piece, and return its end; `at` if it is not ready."""
        came = len(data) - at
        if came < _HEAD:
            return at
        size, kind = self._checked(int.from_bytes(data[at : at + 4], "big"), data[at + 4])
        is_json = kind == JSON
        self._need = size if is_json or size <= self._whole_bytes else _CHUNK_HEAD
        if came < self._need:
            return at
        self._need = _HEAD
        if is_json:
            frames.append(Frame(JSON, data[at + _HEAD : at + size]))
            return at + size
        self._kind, self._time_ns = kind, int.from_bytes(data[at + _HEAD : at + _CHUNK_HEAD], "big")
        end = min(at + size, len(data))
        self._left = at + size - end
        if end > at + _CHUNK_HEAD:
            frames.append(Frame(kind, data[at + _CHUNK_HEAD : end], self._time_ns))
        return end

    def _checked(self, length: int, kind: int) -> tuple[int, int]:
        """Return the size of a whole frame and its kind; ProtocolError for what is no frame."""
        if not 1 <= length <= FRAME_LIMIT:
            raise ProtocolError(f"not levity's protocol: a frame of {length} bytes (the limit is {FRAME_LIMIT})")
        if kind not in (JSON, STDOUT, STDERR):
            raise ProtocolError(f"not levity's protocol: a frame of unknown kind {kind}")
        if kind != JSON and length < _CHUNK_HEAD - 4:
            raise ProtocolError("not levity's protocol: an output frame without its time")
        return 4 + length, kind
