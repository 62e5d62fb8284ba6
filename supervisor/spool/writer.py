"""Write a task's output and its index. Runs in: shim. Owns: the open spool files of one task.

One chunk is in hand at a time. What the disk does not take stays in hand and is tried again at the same place, so a
full disk leaves neither a hole nor a doubled byte; the caller reads no further chunk meanwhile.
"""

import os

from supervisor.spool.index import pack_record
from supervisor.spool.layout import STREAMS, index_name, segment_name

__all__ = ["SpoolWriter"]

_INDEX = 0


class SpoolWriter:
    """The spool of one task, in its directory. Its files are made when there is something to write to them."""

    def __init__(self, directory_fd: int) -> None:
        self._directory_fd = directory_fd
        self._files: dict[int, int] = {}  # by stream number; _INDEX is the index
        self.ends = {1: 0, 2: 0}
        self._records = 0
        self._index_end = 0
        self._last_time_ns = 0
        self._stream = 0
        self._rest = memoryview(b"")
        self._record = b""

    def __repr__(self) -> str:
        return f"<SpoolWriter {self.ends} {self._records} records{' blocked' if self.is_blocked else ''}>"

    @property
    def is_blocked(self) -> bool:
        """Whether a chunk is still in hand."""
        return bool(self._rest) or bool(self._record)

    def write(self, stream: int, data: bytes, time_ns: int) -> None:
        """Append a chunk and its record; OSError when the disk did not take all of it: `flush` tries again."""
        assert not self.is_blocked
        self._stream = stream
        self._rest = memoryview(data)
        # The index is searched by time, so a clock that was set back must not be seen in it.
        self._last_time_ns = max(self._last_time_ns, time_ns)
        ends = dict(self.ends)
        ends[stream] += len(data)
        self._record = pack_record(self._records, self._last_time_ns, ends[1], ends[2], stream)
        self.flush()

    def flush(self) -> None:
        """Write what is still in hand."""
        while self._rest:
            done = os.pwrite(self._file(self._stream), self._rest, self.ends[self._stream])
            self.ends[self._stream] += done
            self._rest = self._rest[done:]
        while self._record:
            done = os.pwrite(self._file(_INDEX), self._record, self._index_end)
            self._index_end += done
            self._record = self._record[done:]
            self._records += not self._record

    def _file(self, number: int) -> int:
        if number not in self._files:
            name = index_name(0) if number == _INDEX else segment_name(STREAMS[number], 0)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._files[number] = os.open(name, flags, 0o600, dir_fd=self._directory_fd)
        return self._files[number]

    def sync(self) -> None:
        """Make all that was written durable; a spool without output costs nothing."""
        for fd in self._files.values():
            os.fdatasync(fd)
