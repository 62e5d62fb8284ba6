"""Cut a log into lines, each with its time and source. Runs in: client. Owns: nothing. Never: does I/O."""

from levity.timestamps import rfc3339

__all__ = ["HELD_LIMIT_BYTES", "LineRenderer"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from levity.operations.logs import LogChunk

# How much of a line is held back until its end comes. A longer line is passed on in pieces.
HELD_LIMIT_BYTES = 64 * 1024
# As wide as a time.
_NO_TIME = "----------T--:--:--.---------Z"
_SHORT = {"stdout": "out", "stderr": "err"}


class LineRenderer:
    """Puts a head before every line of one task's log, and returns only whole lines.

    The head has the time of the line's first byte (`timestamps`), the beginning of the id and the stream (`prefix`).
    Without both, the bytes stay as they are.
    """

    def __init__(self, timestamps: bool, prefix: bool, held_limit_bytes: int = HELD_LIMIT_BYTES) -> None:
        self._timestamps = timestamps
        self._prefix = prefix
        self._lines = {name: _Line(held_limit_bytes) for name in _SHORT}
        # The last head: many chunks in a row have the same.
        self._head_of: tuple[str, int] | None = None
        self._head_made = b""

    def __repr__(self) -> str:
        return f"<LineRenderer {self._lines}>"

    def feed(self, chunk: "LogChunk") -> bytes:
        """Take a chunk, and return the bytes to write to its stream now."""
        line = self._lines[chunk.stream]
        if chunk.dropped:
            # The line has a hole: both parts of it stay one line.
            return line.flush()
        return line.take(chunk.data, self._head(chunk))

    def finish(self) -> "Iterator[tuple[str, bytes]]":
        """Yield, for each stream whose last line has no end, the name and what is held back, perhaps nothing."""
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
        self.is_open = False  # a line has begun; perhaps nothing of it is held any more
        self._held: list[bytes] = []
        self._size = 0  # of the line so far, held or not

    def __repr__(self) -> str:
        return f"{self._size} B" if self.is_open else "none"

    def take(self, data: bytes, head: bytes) -> bytes:
        """Take bytes that came at once, and return all lines that are now whole."""
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
        """Return the held bytes; the line stays open."""
        held, self._held = b"".join(self._held), []
        return held


def _headed(lines: bytes, head: bytes) -> bytes:
    """Return whole lines with the head before each."""
    if not lines or not head:
        return lines
    return head + lines[:-1].replace(b"\n", b"\n" + head) + b"\n"
