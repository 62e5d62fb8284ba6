"""Write a log's chunks to standard output and error, in each form. Runs in: client. Owns: nothing."""

from levity.cli.output import STDERR, STDOUT, print_error, write

__all__ = ["JsonPrinter", "LinePrinter", "OpenLines", "PlainPrinter", "Printer"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from levity.operations.logs import LogChunk


_DESCRIPTORS = {"stdout": STDOUT, "stderr": STDERR}


class PlainPrinter:
    """Writes bytes unchanged, each stream to its own descriptor."""

    def take(self, chunk: "LogChunk") -> None:
        """Write a chunk."""
        if chunk.data:
            write(_DESCRIPTORS[chunk.stream], chunk.data)
        else:
            print_note(chunk)

    def finish(self) -> None:
        """Write what is held back, which is nothing."""


class OpenLines:
    """Notes, by stream, which of several logs wrote a line that has not ended: another log must not go on with it.

    A line is open if it was too long to be held back, or at the end of a log.
    """

    def __init__(self) -> None:
        self._of: dict[str, object] = {}

    def before(self, stream: str, printer: object, data: bytes) -> bytes:
        """Return `data` as `printer` is to write it: behind the end of another log's open line."""
        if not data:
            return data
        end = b"" if self._of.get(stream) in {None, printer} else b"\n"
        self._of[stream] = None if data.endswith(b"\n") else printer
        return end + data

    def rest(self, stream: str, printer: object, data: bytes) -> bytes:
        """Return what `printer` is to write last, so that its line ends."""
        return self.before(stream, printer, data + b"\n") if data or self._of.get(stream) is printer else b""


class LinePrinter:
    """Writes whole lines, with time and source before them."""

    def __init__(self, timestamps: bool = False, prefix: bool = False, open_lines: OpenLines | None = None) -> None:
        """`open_lines` is shared with the printers of other tasks' logs."""
        from levity.cli.render.line_renderer import LineRenderer

        self._renderer = LineRenderer(timestamps, prefix)
        self._open_lines = open_lines

    def take(self, chunk: "LogChunk") -> None:
        """Write the lines that `chunk` completes."""
        data = self._renderer.feed(chunk)
        if self._open_lines:
            data = self._open_lines.before(chunk.stream, self, data)
        write(_DESCRIPTORS[chunk.stream], data)
        if not chunk.data:
            print_note(chunk)

    def finish(self) -> None:
        """Write the rest of last lines without an end."""
        for stream, rest in self._renderer.finish():
            write(_DESCRIPTORS[stream], self._open_lines.rest(stream, self, rest) if self._open_lines else rest)


class JsonPrinter:
    """Writes JSON lines, all to standard output."""

    def __init__(self) -> None:
        from levity.cli.render.json_renderer import JsonRenderer

        self._renderer = JsonRenderer()

    def take(self, chunk: "LogChunk") -> None:
        """Write the objects for `chunk`."""
        write(STDOUT, self._renderer.feed(chunk))

    def finish(self) -> None:
        """Write the bytes of characters that stay cut."""
        for line in self._renderer.finish():
            write(STDOUT, line)


def print_note(chunk: "LogChunk") -> None:
    """Write a note to standard error, in words."""
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
