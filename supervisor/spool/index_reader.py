"""Find and read the records of a spool's index. Runs in: front-end. Owns: one open index file at a time.

A damaged record is passed over: each good one is a complete position by itself. Missing records show as a gap in the
sequence numbers.
"""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator

from supervisor.hostos.files import open_to_read
from supervisor.spool.index import RECORD_SIZE, START, IndexRecord, good_records
from supervisor.spool.layout import index_name

__all__ = ["IndexReader"]

_BLOCK = 4096
_PROBE = 64


class IndexReader:
    """The index in an open directory, as the last `relist` found it; `close` it."""

    def __init__(self, directory_fd: int) -> None:
        self._directory_fd = directory_fd
        self._firsts: list[int] = []
        self._open = (-1, -1)  # first sequence, descriptor

    def close(self) -> None:
        """Close the file."""
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = (-1, -1)

    def relist(self, firsts: list[int]) -> None:
        """Set the files that there are now, by the sequence number in their names."""
        self._firsts = sorted(firsts)

    def after(self, record: IndexRecord) -> Iterator[IndexRecord]:
        """Yield the good records after this one."""
        sequence = record[0] + 1
        for first in self._firsts[max(0, bisect_right(self._firsts, sequence) - 1) :]:
            number = max(0, sequence - first)
            while data := self._read(first, number, _BLOCK):
                yield from good_records(data, first + number)
                number += len(data) // RECORD_SIZE

    def before(self, record: IndexRecord) -> Iterator[IndexRecord]:
        """Yield the good records before this one, the newest first, and at last START."""
        for first in reversed(self._firsts[: bisect_left(self._firsts, record[0])]):
            number = min(self._count(first), record[0] - first)
            while number > 0:
                start = max(0, number - _BLOCK)
                data = self._read(first, start, number - start)
                yield from reversed(list(good_records(data, first + start)))
                number = start
        yield START

    def end(self) -> IndexRecord:
        """Return the last good record; START if there is none."""
        return next(self.before((2**63, 0, 0, 0, 0)))

    def last_not(self, is_past: Callable[[IndexRecord], bool]) -> IndexRecord:
        """Return the last good record for which `is_past` is false; START if there is none.

        `is_past` must be false up to some record and true from there on.
        """
        for first in reversed(self._firsts):
            count = self._count(first)
            found = self._good_from(first, 0, count)
            if found is not None and not is_past(found):
                return self._last_not_in(first, count, found, is_past)
        return START

    def _last_not_in(
        self, first: int, count: int, best: IndexRecord, is_past: Callable[[IndexRecord], bool]
    ) -> IndexRecord:
        low, high = best[0] - first + 1, count
        while low < high:
            middle = (low + high) // 2
            record = self._good_from(first, middle, high)
            if record is None or is_past(record):
                high = middle
            else:
                best = record
                low = record[0] - first + 1
        return best

    def _good_from(self, first: int, number: int, end: int) -> IndexRecord | None:
        """Return the first good record of a file from the `number`-th on and before the `end`-th."""
        while number < end and (data := self._read(first, number, min(_PROBE, end - number))):
            for record in good_records(data, first + number):
                return record
            number += len(data) // RECORD_SIZE
        return None

    def _count(self, first: int) -> int:
        fd = self._fd(first)
        return os.fstat(fd).st_size // RECORD_SIZE if fd >= 0 else 0

    def _read(self, first: int, number: int, count: int) -> bytes:
        """Return up to `count` whole records of a file from the `number`-th on; b"" at its end."""
        fd = self._fd(first)
        if fd < 0:
            return b""
        data = os.pread(fd, count * RECORD_SIZE, number * RECORD_SIZE)
        return data[: len(data) // RECORD_SIZE * RECORD_SIZE]

    def _fd(self, first: int) -> int:
        """Return the open file; -1 if it was removed."""
        if self._open[0] != first:
            self.close()
            try:
                self._open = (first, open_to_read(index_name(first), self._directory_fd))
            except FileNotFoundError:
                return -1
        return self._open[1]
