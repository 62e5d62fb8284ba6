"""A log's lines, each with its time and where it is from. Runs in: client. Owns: nothing. Never: does I/O."""

from levity.timestamps import rfc3339

__all__ = ["HELD_LIMIT_BYTES", "LineRenderer"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from levity.operations.logs import LogChunk

# How much of a line is held back until its end comes. A longer one is passed on in pieces.
HELD_LIMIT_BYTES = 64 * 1024
# As wide as a time.
_NO_TIME = "----------T--:--:--.---------Z"
_SHORT = {"stdout": "out", "stderr": "err"}


class LineRenderer:
    """Puts a head before every line of one task's log, and gives out whole lines only.

    The head has, where wanted, the time of the line's first byte, and the beginning of the id with the stream's name.
    Without heads what it gives out is what it was given, byte for byte.
    """

    def __init__(self, timestamps: bool, prefix: bool, held_limit_bytes: int = HELD_LIMIT_BYTES) -> None:
        self._timestamps = timestamps
        self._prefix = prefix
        self._lines = {name: _Line(held_limit_bytes) for name in _SHORT}
        # The head made last, for many chunks in a row may have the same.
        self._head_of: tuple[str, int] | None = None
        self._head_made = b""

    def __repr__(self) -> str:
        return f"<LineRenderer {self._lines}>"

    def feed(self, chunk: "LogChunk") -> bytes:
        """Return what is to be written of the chunk's stream now that `chunk` came."""
        line = self._lines[chunk.stream]
        if chunk.dropped:
            # The line has a hole: what is there of it stays together, and is not taken for two.
            return line.flush()
        return line.take(chunk.data, self._head(chunk))

    def finish(self) -> "Iterator[tuple[str, bytes]]":
        """Yield for each stream with a last line that did not end what is held back of it, be it nothing."""
        for name, line in self._lines.items():
            if line.is_open:
                yield name, line.flush()

    def _head(self, chunk: "LogChunk") -> bytes:
        if self._head_of != (chunk.stream, chunk.time_ns):
            self._head_of = chunk.stream, chunk.time_ns
            time = f"{rfc3339(chunk.time_ns) if chunk.time_ns else _NO_TIME} " if self._timestamps else ""
            source = f"{chunk.task_id[:8]} {_SHORT[chunk.stream]} " if self._prefix else ""
            self._head_made = (time + source).encode()
        return self._head_made


class _Line:
    """The unfinished line of one stream."""

    __slots__ = ("_held", "_limit", "_size", "is_open")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.is_open = False  # whether a line has begun; perhaps nothing of it is held any more
        self._held: list[bytes] = []
        self._size = 0  # of all that came of it, held or not

    def __repr__(self) -> str:
        return f"{self._size} B" if self.is_open else "none"

    def take(self, data: bytes, head: bytes) -> bytes:
        """Take bytes that came at once, and return all lines that are whole with them."""
        whole_to = data.rfind(b"\n") + 1
        ready: list[bytes] = []
        if whole_to:
            first_to = data.index(b"\n") + 1 if self.is_open else 0
            ready = [*self._held, data[:first_to], _headed(data[first_to:whole_to], head)]
            self.is_open, self._held, self._size = False, [], 0
        if whole_to < len(data):
            self._begin_or_go_on(data[whole_to:], head)
        if self._size > self._limit:
            ready.append(self.flush())
        return b"".join(ready)

    def _begin_or_go_on(self, data: bytes, head: bytes) -> None:
        if not self.is_open:
            self.is_open = True
            self._held.append(head)
        self._held.append(data)
        self._size += len(data)

    def flush(self) -> bytes:
        """Return what is held; the line stays open."""
        held, self._held = b"".join(self._held), []
        return held


def _headed(lines: bytes, head: bytes) -> bytes:
    """Return whole lines with the head before each."""
    if not lines or not head:
        return lines
    return head + lines[:-1].replace(b"\n", b"\n" + head) + b"\n"
