"""The file that `--stdin` names. Runs in: client. Owns: nothing."""

from levity.errors import LevityError

__all__ = ["open_stdin_file"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO


def open_stdin_file(name: str) -> "FileIO":
    """Open a file for reading, `-` for standard input; LevityError if that fails."""
    try:
        # Without a buffer: bytes come at once, and none is taken that another process should read.
        return open(0, "rb", 0, closefd=False) if name == "-" else open(name, "rb", 0)
    except OSError as error:
        raise LevityError(f"cannot read {name!r}: {error.strerror}") from error
