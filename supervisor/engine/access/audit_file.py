"""The file of the audit: append numbered lines, rotate it when it is large. Runs in: engine.

Owns: the file's descriptor.
"""

import json
import os
import stat
from contextlib import ExitStack

from supervisor.log import log

__all__ = ["AuditFile"]

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
# More than the longest line; the whole file is read only if there is no good line in that.
_TAIL_BYTES = 64 * 1024


class AuditFile:
    """Appends lines, each in one write(2). `append` raises OSError and may then be called again with the same event.

    Each line begins with its number, `seq`. Numbers go on through rotation and restarts without a gap, so a line that
    was taken out of the middle is missed. An operator may rename or remove the file: then a new one is begun.
    """

    def __init__(self, path: str, size_limit: int, keep: int) -> None:
        self._path = path
        self._size_limit = size_limit
        self._keep = keep
        self._fd: int | None = None
        self._identity = (0, 0)
        self._size = 0
        self._seq: int | None = None
        # How many bytes of the next line are in the file already: the rest did not fit.
        self._begun = 0
        self._cannot_rotate = False

    def __repr__(self) -> str:
        return f"<AuditFile {self._seq} lines, {self._size} B>"

    def append(self, event: bytes) -> None:
        """Write one line: its number, and `event`, a JSON object without its opening brace."""
        fd, seq = self._follow()
        line = b'{"seq":%d,%b\n' % (seq + 1, event)
        if self._size and not self._begun and self._size + len(line) > self._size_limit and self._rotate():
            fd, seq = self._follow()
        while self._begun < len(line):
            self._begun += os.write(fd, line[self._begun :])
        self._begun = 0
        self._seq = seq + 1

    def close(self) -> None:
        """Close the file; appending opens it again."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None
        self._begun = 0

    def _follow(self) -> tuple[int, int]:
        """Return a descriptor of the file that has the name now, and the number of the last line."""
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            self.close()
        else:
            if self._identity != (found.st_dev, found.st_ino):
                self.close()
            self._size = found.st_size
        if self._fd is None or self._seq is None:
            return self._open()
        return self._fd, self._seq

    def _open(self) -> tuple[int, int]:
        self.close()
        with ExitStack() as undo:
            fd = os.open(self._path, _FLAGS, 0o600)
            undo.callback(os.close, fd)
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(0, "it is no file")
            if stat.S_IMODE(found.st_mode) & 0o077:
                os.fchmod(fd, 0o600)
            seq = self._seq if self._seq is not None else self._last_seq()
            if found.st_size and os.pread(fd, 1, found.st_size - 1) != b"\n":
                os.write(fd, b"\n")  # The engine that wrote the last line did not come to its end.
            undo.pop_all()
        self._fd, self._seq = fd, seq
        self._identity = (found.st_dev, found.st_ino)
        self._size = found.st_size
        return fd, seq

    def _rotate(self) -> bool:
        """Have a new file begun; False where that fails: then this file grows, which is better than to lose a line."""
        try:
            # Up to the first gap only: if the last step fails again and again, the older files must not be pushed out.
            free = next((n for n in range(1, self._keep) if not os.path.lexists(self._numbered(n))), self._keep)
            for number in range(free, 1, -1):
                os.rename(self._numbered(number - 1), self._numbered(number))
            os.rename(self._path, self._numbered(1))
        except OSError as error:
            if not self._cannot_rotate:
                log(f"levityd: {self._path} cannot be renamed ({error.strerror}): it grows beyond its limit")
            self._cannot_rotate = True
            return False
        self._cannot_rotate = False
        return True

    def _numbered(self, number: int) -> str:
        return f"{self._path}.{number}"

    def _last_seq(self) -> int:
        """Return the number of the newest line there is; 0 when there is none."""
        last = _last_seq_in(self._path)
        for number in range(1, self._keep + 1):
            if last is not None:
                break
            try:
                last = _last_seq_in(self._numbered(number))
            except OSError:
                pass  # There is none, or levityd did not write it: the next.
        return last or 0


def _last_seq_in(path: str) -> int | None:
    """Return the number of the last whole line of a file, if there is one."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
        size = os.fstat(file.fileno()).st_size
        for start in (max(0, size - _TAIL_BYTES), 0):
            file.seek(start)
            # A torn line is no JSON; a line that lacks only its newline counts.
            for line in reversed(file.read().split(b"\n")):
                if (seq := _seq_of(line)) is not None:
                    return seq
    return None


def _seq_of(line: bytes) -> int | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    seq = event.get("seq") if isinstance(event, dict) else None
    return seq if isinstance(seq, int) and not isinstance(seq, bool) and seq >= 0 else None
