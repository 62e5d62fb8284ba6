"""Write bytes to standard output and error, and tell every failure. Runs in: client. Owns: descriptors 0, 1 and 2.

Not sys.stdout: it buffers, encodes, and tells of a full disk only when the interpreter shuts down.
"""

import os
import sys

from levity.errors import LevityError

__all__ = [
    "ReaderGone",
    "fill_standard_descriptors",
    "print_error",
    "printable",
    "wait_readable",
    "write",
    "write_text",
]

STDOUT, STDERR = 1, 2
_NAMES = {STDOUT: "standard output", STDERR: "standard error"}


class ReaderGone(LevityError):
    """The reader of the output has left (`| head`): no fault, no message, the code of a program ended by SIGPIPE."""

    exit_status = 141


def fill_standard_descriptors() -> None:
    """Open /dev/null for each standard descriptor that is closed, or the connection would get its number.

    For reading only, so that output to it still fails instead of being lost.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


def write(fd: int, data: bytes) -> None:
    """Write all of `data`, blocking; ReaderGone or LevityError if that fails."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            _wait_writable(fd)
        except BrokenPipeError:
            raise ReaderGone("") from None
        except OSError as error:
            raise LevityError(f"cannot write to {_NAMES[fd]}: {error.strerror}") from error


def write_text(text: str) -> None:
    """Write to standard output: bytes of file names as they were, escapes for what the locale cannot encode."""
    write(STDOUT, text.encode(sys.getfilesystemencoding(), _text_errors(text)))


def print_error(message: str) -> None:
    """Write one line to standard error; a failure to do so is ignored."""
    line = f"levity: {printable(message)}\n".encode(sys.getfilesystemencoding(), "backslashreplace")
    try:
        write(STDERR, line)
    except LevityError:
        pass


def printable(text: str) -> str:
    """Return `text` with Python's escapes for control characters, line ends and bytes that are no text."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    # PEP 383: U+DC80..U+DCFF stand for single bytes.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(char)[1:-1]


def _text_errors(text: str) -> str:
    try:
        text.encode(sys.getfilesystemencoding(), "surrogateescape")
    except UnicodeEncodeError:
        return "backslashreplace"
    return "surrogateescape"


def _wait_writable(fd: int) -> None:
    """Wait for room: another process made the shared terminal or pipe non-blocking."""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()


def wait_readable(fd: int, timeout_s: float) -> None:
    """Wait until `fd` is readable; ReaderGone as soon as the reader of standard output leaves.

    A command that has nothing to write would not notice otherwise. poll(2): POLLERR at the writing end of a pipe,
    POLLHUP at a socket whose other end is closed, or at a terminal that is gone.
    """
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(STDOUT, 0)
    if dict(poll.poll(timeout_s * 1000)).get(STDOUT, 0) & (select.POLLERR | select.POLLHUP):
        raise ReaderGone("")
