"""Write a log's chunks to our own standard streams, in the form that is wanted. Runs in: client. Owns: nothing."""

from levity.cli.output import STDERR, STDOUT, print_error, write

__all__ = ["JsonPrinter", "LinePrinter", "OpenLines", "PlainPrinter", "Printer"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from levity.operations.logs import LogChunk


_DESCRIPTORS = {"stdout": STDOUT, "stderr": STDERR}


class PlainPrinter:
    """Bytes unchanged and as they come, each stream to its own descriptor."""

    def take(self, chunk: "LogChunk") -> None:
        """Write a chunk."""
        if chunk.data:
            write(_DESCRIPTORS[chunk.stream], chunk.data)
        else:
            print_note(chunk)

    def finish(self) -> None:
        """Write what is held back: nothing."""


class OpenLines:
    """Which of several logs was the last to write to a stream, if its line has not ended: no other goes on with it.

    That happens with a line that is too long to be held back, and at the end of a log.
    """

    def __init__(self) -> None:
        self._of: dict[str, object] = {}

    def before(self, stream: str, who: object, data: bytes) -> bytes:
        """Return what `who` is to write for its `data`: an end for somebody else's line before it."""
        if not data:
            return data
        end = b"" if self._of.get(stream) in {None, who} else b"\n"
        self._of[stream] = None if data.endswith(b"\n") else who
        return end + data

    def rest(self, stream: str, who: object, data: bytes) -> bytes:
        """Return what `who` is to write at last, to have its line end."""
        return self.before(stream, who, data + b"\n") if data or self._of.get(stream) is who else b""


class LinePrinter:
    """Whole lines, with time and origin before them."""

    def __init__(self, timestamps: bool = False, prefix: bool = False, open_lines: OpenLines | None = None) -> None:
        """`open_lines`: shared with the logs of other tasks, whose lines may come in between, or afterwards."""
        from levity.cli.render.line_renderer import LineRenderer

        self._renderer = LineRenderer(timestamps, prefix)
        self._open_lines = open_lines

    def take(self, chunk: "LogChunk") -> None:
        """Write the lines that are whole with `chunk`."""
        data = self._renderer.feed(chunk)
        if self._open_lines:
            data = self._open_lines.before(chunk.stream, self, data)
        write(_DESCRIPTORS[chunk.stream], data)
        if not chunk.data:
            print_note(chunk)

    def finish(self) -> None:
        """Write the rest of last lines that did not end."""
        for stream, rest in self._renderer.finish():
            write(_DESCRIPTORS[stream], self._open_lines.rest(stream, self, rest) if self._open_lines else rest)


class JsonPrinter:
    """JSON lines, all to standard output."""

    def __init__(self) -> None:
        from levity.cli.render.json_renderer import JsonRenderer

        self._renderer = JsonRenderer()

    def take(self, chunk: "LogChunk") -> None:
        """Write the objects for `chunk`."""
        write(STDOUT, self._renderer.feed(chunk))

    def finish(self) -> None:
        """Write bytes that became no character."""
        for line in self._renderer.finish():
            write(STDOUT, line)


def print_note(chunk: "LogChunk") -> None:
    """Say on standard error what a note says."""
    if chunk.is_lost:
        print_error(f"{_bytes(chunk.dropped)} of {chunk.stream} lost: the log is damaged")
    elif chunk.dropped:
        print_error(
            f"{_bytes(chunk.dropped)} of {chunk.stream} dropped, to keep within the limits of levityd or the task"
        )
    else:
        print_error(f"the order and times of the next {_bytes(chunk.unordered)} of {chunk.stream} are not known")


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


Printer = PlainPrinter | LinePrinter | JsonPrinter
