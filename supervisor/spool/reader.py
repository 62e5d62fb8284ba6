"""Read a task's output back, in the order in which it came. Runs in: front-end. Owns: the open files of one reading.

Works on a spool that is being written, on one whose writer was killed, and on one that has lost files or records. What
is not stored any more is told as a hole, what has no record as out of order: neither is passed over in silence.
"""

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from supervisor.spool.files import load_record
from supervisor.spool.index import BASE, START, follows
from supervisor.spool.index_reader import IndexReader
from supervisor.spool.layout import EXIT, STREAMS, parse_segment
from supervisor.spool.records import JsonObject
from supervisor.spool.stream_reader import Span, StreamReader

__all__ = ["Extent", "Hole", "Piece", "SpoolReader", "Unordered"]

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Extent(NamedTuple):
    """Neighbouring bytes of one stream in one file, and when the first of them came (ns since the epoch)."""

    stream: int
    fd: int
    position: int
    length: int
    time_ns: int


class Hole(NamedTuple):
    """So many bytes of a stream are not stored any more."""

    stream: int
    length: int


class Unordered(NamedTuple):
    """Of the bytes that follow, so many of each stream, order and times are not known."""

    stdout: int
    stderr: int


Piece = Extent | Hole | Unordered


class SpoolReader:
    """One reading of the spool in `path`; close it. FileNotFoundError if there is no such directory.

    `ends` is how far it has come in each stream. `over` says that nothing is written any more, so that what has no
    record is read, too. Of the streams not `selected` nothing is read. With `exact`, bytes of different times are never
    put together.
    """

    def __init__(self, path: str, selected: Collection[int] = tuple(STREAMS), *, exact: bool = False) -> None:
        self._directory_fd = os.open(path, _DIRECTORY_FLAGS)
        self._selected = frozenset(selected)
        self._exact = exact
        self._index = IndexReader(self._directory_fd)
        self._streams = {number: StreamReader(self._directory_fd, name) for number, name in STREAMS.items()}
        self._exit: JsonObject = {}
        self._last = START
        self._holes = dict.fromkeys(STREAMS, 0)
        self.ends = dict.fromkeys(STREAMS, 0)
        self.over = False
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        self._index.close()
        for stream in self._streams.values():
            stream.close()
        if self._directory_fd >= 0:
            os.close(self._directory_fd)
            self._directory_fd = -1

    def refresh(self) -> None:
        """Look what there is now. FileNotFoundError if the directory was removed."""
        # The exit record is written last, so it is looked for first: what it speaks of is then all there.
        self._exit = load_record(self._directory_fd, EXIT) or {}
        self.over = bool(self._exit)
        if os.fstat(self._directory_fd).st_nlink == 0:
            raise FileNotFoundError("the directory was removed")
        self._relist()

    def _relist(self) -> None:
        found: dict[str, list[int]] = {"index": [], "stdout": [], "stderr": [], "stdin": []}
        for name in os.listdir(self._directory_fd):
            if segment := parse_segment(name):
                found[segment[0]].append(segment[1])
        self._index.relist(found["index"])
        for number, name in STREAMS.items():
            self._streams[number].relist(found[name])

    # Where to begin

    def begin_at(self, ends: dict[int, int]) -> None:
        """Go on behind these positions."""
        self.ends = dict(ends)
        self._last = self._index.last_not(lambda record: any(record[1 + n] > ends[n] for n in self._selected))

    def begin_since(self, time_ns: int) -> None:
        """Begin with what came at this time or later."""
        self._last = self._index.last_not(lambda record: record[1] >= time_ns)
        self.ends = {1: self._last[2], 2: self._last[3]}

    def totals(self, until_ns: int | None = None) -> dict[int, int]:
        """Return where each stream ends by now, or ended at `until_ns`."""
        if until_ns is not None:
            last = self._index.last_not(lambda record: record[1] > until_ns)
            return {1: last[2], 2: last[3]}
        last = self._index.end()
        totals = {1: last[2], 2: last[3]}
        if self.over:
            for number, name in STREAMS.items():
                totals[number] = max(totals[number], self._streams[number].end(), self._exit.get(f"{name}_bytes") or 0)
        return totals

    # Reading

    def pieces(self, limit: int, until_ns: int | None = None) -> Iterator[Piece]:
        """Yield what there is behind `ends`, in order, at most `limit` bytes of it at a time; `ends` moves along."""
        run: tuple[int, int, int] | None = None  # stream, end, time of the first byte
        for record in self._index.after(self._last):
            if not follows(record, self._last):
                continue
            if until_ns is not None and record[1] > until_ns:
                break
            gap = record[0] != self._last[0] + 1
            self._last = record
            stream, end = record[4], record[2 if record[4] == 1 else 3]
            if run and (gap or (stream in self._selected and not self._joins(run, stream, end, limit))):
                yield from self._emit(*run, limit)
                run = None
            if gap:
                yield from self._emit_unordered({1: record[2], 2: record[3]}, record[1], limit)
            elif stream == BASE:
                continue
            elif stream not in self._selected:
                self.ends[stream] = max(self.ends[stream], end)
            else:
                run = (stream, end, run[2] if run else record[1])
        if run:
            yield from self._emit(*run, limit)
        if self.over and until_ns is None:
            yield from self._emit_unordered(self.totals(), self._last[1], limit)
        yield from self._tell_holes()

    def _joins(self, run: tuple[int, int, int], stream: int, end: int, limit: int) -> bool:
        """Whether a record's bytes go with those of the run before it."""
        return stream == run[0] and not self._exact and end - self.ends[stream] <= limit

    def _emit(self, stream: int, end: int, time_ns: int, limit: int) -> Iterator[Piece]:
        if stream not in self._selected:
            self.ends[stream] = max(self.ends[stream], end)
            return
        for span in self._spans(stream, end):
            if span.fd < 0:
                self._holes[stream] += span.length
                self.ends[stream] += span.length
                continue
            yield from self._tell_holes()
            for offset in range(0, span.length, limit):
                length = min(limit, span.length - offset)
                yield Extent(stream, span.fd, span.position + offset, length, time_ns)
                self.ends[stream] += length

    def _spans(self, stream: int, end: int) -> Iterator[Span]:
        """Yield where the bytes from `ends` to `end` are."""
        start = self.ends[stream]
        while start < end:
            span = next(self._streams[stream].spans(start, end))
            if span.fd < 0:
                # A file is made with its first bytes, so it may have come since the last look.
                self._relist()
                span = next(self._streams[stream].spans(start, end))
            yield span
            start += span.length

    def _emit_unordered(self, ends: dict[int, int], time_ns: int, limit: int) -> Iterator[Piece]:
        stored = {1: 0, 2: 0}
        for stream in self._selected:
            stored[stream] = sum(span.length for span in self._spans(stream, ends[stream]) if span.fd >= 0)
        if any(stored.values()):
            yield from self._tell_holes()
            yield Unordered(stored[1], stored[2])
        for stream, end in ends.items():
            yield from self._emit(stream, end, time_ns, limit)

    def _tell_holes(self) -> Iterator[Piece]:
        for stream, length in self._holes.items():
            if length:
                self._holes[stream] = 0
                yield Hole(stream, length)

    def runs_backward(self, totals: dict[int, int]) -> Iterator[tuple[int, int, int]]:
        """Yield (stream, start, end) of each run of bytes, from `totals` back to the beginning."""
        later = totals
        index_end = self._index.last_not(lambda record: record[2] > totals[1] or record[3] > totals[2])
        for record in self._index.before((index_end[0] + 1, 0, 0, 0, 0)):
            ends = {1: record[2], 2: record[3]}
            for stream in (2, 1):
                if ends[stream] < later[stream]:
                    yield stream, ends[stream], later[stream]
            later = ends

    def blocks_backward(self, stream: int, start: int, end: int, limit: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of a run from its end on; what is not stored any more is left out."""
        for offset, span in self._streams[stream].spans_backward(start, end, limit):
            if span.fd >= 0:
                yield offset, os.pread(span.fd, span.length, span.position)
