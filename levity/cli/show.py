"""Write a log's chunks to our own standard streams, in the form that is wanted. Runs in: client. Owns: nothing."""

from levity.cli.output import STDERR, STDOUT, complain, write

__all__ = ["JsonShow", "LineShow", "PlainShow"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from levity.logs import LogChunk

_DESCRIPTORS = {"stdout": STDOUT, "stderr": STDERR}


class PlainShow:
    """Bytes unchanged and as they come, each stream to its own descriptor."""

    def take(self, chunk: "LogChunk") -> None:
        """Write a chunk."""
        if chunk.data:
            write(_DESCRIPTORS[chunk.stream], chunk.data)
        else:
            tell(chunk)

    def finish(self) -> None:
        """Write what is held back: nothing."""


class LineShow:
    """Whole lines, with time and origin before them."""

    def __init__(self, timestamps: bool = False, prefix: bool = False, ends_lines: bool = False) -> None:
        """`ends_lines`: other tasks' lines may follow, so a last line that did not end is ended."""
        from levity.cli.lines import LineRenderer

        self._renderer = LineRenderer(timestamps, prefix)
        self._ends_lines = ends_lines

    def take(self, chunk: "LogChunk") -> None:
        """Write the lines that are whole with `chunk`."""
        write(_DESCRIPTORS[chunk.stream], self._renderer.feed(chunk))
        if not chunk.data:
            tell(chunk)

    def finish(self) -> None:
        """Write the rest of last lines that did not end."""
        for stream, rest in self._renderer.finish():
            write(_DESCRIPTORS[stream], rest + b"\n" * self._ends_lines)


class JsonShow:
    """JSON lines, all to standard output."""

    def __init__(self) -> None:
        from levity.cli.records import RecordRenderer

        self._renderer = RecordRenderer()

    def take(self, chunk: "LogChunk") -> None:
        """Write the objects for `chunk`."""
        write(STDOUT, self._renderer.feed(chunk))

    def finish(self) -> None:
        """Write bytes that became no character."""
        for line in self._renderer.finish():
            write(STDOUT, line)


def tell(chunk: "LogChunk") -> None:
    """Say on standard error what a note says."""
    if chunk.is_lost:
        complain(f"{_bytes(chunk.dropped)} of {chunk.stream} lost: the log is damaged")
    elif chunk.dropped:
        complain(f"{_bytes(chunk.dropped)} of {chunk.stream} dropped, to keep within the limits of levityd or the task")
    else:
        complain(f"the order and times of the next {_bytes(chunk.unordered)} of {chunk.stream} are not known")


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"
