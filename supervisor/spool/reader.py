"""Read a task's output back, in the order in which it came. Runs in: front-end. Owns: the open files of one reading.

Works on a spool that is being written and on one whose writer was killed: it trusts the index up to its last good
record; of a task that is over, the bytes without a record follow last.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from supervisor.spool.index import RECORD_SIZE, IndexRecord, unpack_records
from supervisor.spool.layout import STREAMS, index_name, parse_segment, segment_name

__all__ = ["Extent", "SpoolReader"]

_INDEX_READ = 4096 * RECORD_SIZE
_START: IndexRecord = (-1, 0, 0, 0, 0)


class Extent(NamedTuple):
    """Neighbouring bytes of one stream in one file, and when the first of them came."""

    stream: int
    fd: int
    position: int
    length: int
    time_ns: int


class SpoolReader:
    """One reading of the spool in `path`; close it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open: dict[str, int] = {}
        self._segments: dict[str, list[int]] = {"stdout": [0], "stderr": [0], "index": [0]}
        for name in os.listdir(path):
            segment = parse_segment(name)
            if segment and segment[1]:
                self._segments[segment[0]].append(segment[1])
        for offsets in self._segments.values():
            offsets.sort()
        self.ends = dict.fromkeys(STREAMS, 0)

    def _fd(self, name: str) -> int:
        """Return the open file of this name, -1 if there is none: files are made when they get their first bytes."""
        if name not in self._open:
            try:
                path = os.path.join(self._path, name)
                self._open[name] = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return -1
        return self._open[name]

    def close(self) -> None:
        """Close the files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def extents(self, limit: int, *, over: bool) -> Iterator[Extent]:
        """Yield the output in order, at most `limit` bytes at a time; afterwards `ends` has the bytes of each stream.

        `over` says that nothing is being written any more: then bytes without a record are yielded, too.
        """
        last_time_ns = 0
        for stream, end, time_ns in self._runs(limit):
            yield from self._split(stream, end, time_ns, limit)
            last_time_ns = time_ns
        if over:
            for number in STREAMS:
                yield from self._split(number, self._size(number), last_time_ns, limit)

    def _records(self) -> Iterator[IndexRecord]:
        before = _START
        for first in self._segments["index"]:
            fd, position = self._fd(index_name(first)), 0
            while fd >= 0 and (data := os.pread(fd, _INDEX_READ, position)):
                good = position
                for record in unpack_records(data, before):
                    yield record
                    before = record
                    position += RECORD_SIZE
                if position - good < len(data):
                    return

    def _runs(self, limit: int) -> Iterator[tuple[int, int, int]]:
        """Yield (stream, end offset, time of the first byte) with neighbouring records of one stream put together."""
        current, end, time_ns, start = 0, 0, 0, 0
        for _sequence, at_ns, stdout_end, stderr_end, stream in self._records():
            new_end = stdout_end if stream == 1 else stderr_end
            if stream != current or new_end - start > limit:
                if current:
                    yield current, end, time_ns
                # What was yielded has been split by now, so `ends` is where this run starts.
                current, time_ns, start = stream, at_ns, self.ends[stream]
            end = new_end
        if current:
            yield current, end, time_ns

    def _split(self, stream: int, end: int, time_ns: int, limit: int) -> Iterator[Extent]:
        """Yield the bytes of a stream from where the reading is to `end`, cut at files and at `limit`.

        After a power cut the index may know of bytes that never reached the disk: what is not there is left out.
        """
        name = STREAMS[stream]
        offsets = self._segments[name]
        end = min(end, self._size(stream))
        while self.ends[stream] < end:
            offset = self.ends[stream]
            base = max(first for first in offsets if first <= offset)
            until = min((first for first in offsets if first > offset), default=end)
            length = min(end, until, offset + limit) - offset
            yield Extent(stream, self._fd(segment_name(name, base)), offset - base, length, time_ns)
            self.ends[stream] = offset + length

    def _size(self, stream: int) -> int:
        """Return the end of a stream in its last file."""
        name = STREAMS[stream]
        last = self._segments[name][-1]
        fd = self._fd(segment_name(name, last))
        return last + os.fstat(fd).st_size if fd >= 0 else 0
