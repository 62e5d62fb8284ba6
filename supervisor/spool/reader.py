"""Read a task's output back, in the order in which it came. Runs in: front-end. Owns: the open files of one reading.

Works on a spool that is being written, on one whose writer was killed, and on one that has lost files or records. Bytes
that are not stored any more are told as a hole, bytes without a record as unordered: neither is left out in silence.
"""

import os
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from supervisor.spool.files import load_record
from supervisor.spool.index import BASE, START, IndexRecord, follows
from supervisor.spool.index_reader import IndexReader
from supervisor.spool.layout import EXIT, REMOVED, STREAMS, parse_segment
from supervisor.spool.records import ExitRecord
from supervisor.spool.stream_reader import Span, StreamReader

__all__ = ["Extent", "Hole", "Piece", "SpoolReader", "Unordered"]


class Extent(NamedTuple):
    """Neighbouring bytes of one stream in one file, and when the first of them came (ns since the epoch)."""

    stream: int
    fd: int
    position: int
    length: int
    time_ns: int


class Hole(NamedTuple):
    """So many bytes of a stream are not stored: they were removed to keep within limits or, if `is_lost`, are lost."""

    stream: int
    length: int
    is_lost: bool = False


class Unordered(NamedTuple):
    """The order and the times of the next so many bytes of each stream are not known; their times are 0."""

    stdout: int
    stderr: int


# None: nothing was found yet, but so many records were read that the caller may want to tell its client.
Piece = Extent | Hole | Unordered | None

# At most so many records are read between two pieces.
_STRIDE = 10_000
# After so many records of streams that are not selected, the next record of one that is selected is searched for.
_LEAP = 1000
# Backward, neighbouring bytes are read together, up to so many: a read a record would cost more than its bytes.
_BACKWARD_RUN = 64 * 1024


class SpoolReader:
    """One reading of the spool in an open directory, which is closed with it. FileNotFoundError if that was removed.

    `ends` is how far it has come in each stream. `over` says that nothing is written any more, so that bytes without a
    record are read, too. Only the streams `selected` are read. With `exact`, bytes of different times are never put
    together.
    """

    def __init__(self, directory_fd: int, selected: Collection[int] = tuple(STREAMS), *, exact: bool = False) -> None:
        self._directory_fd = directory_fd
        self._selected = frozenset(selected)
        self._exact = exact
        self._index = IndexReader(self._directory_fd)
        self._streams = {number: StreamReader(self._directory_fd, name) for number, name in STREAMS.items()}
        self._exit: ExitRecord | None = None
        self._last = START
        self._is_removed = False
        self._run: tuple[int, int, int] | None = None  # stream, end, time of the first byte: not given out yet
        self._holes: dict[tuple[int, bool], int] = {}  # stream, is_lost -> bytes
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
        """Look which files there are now. FileNotFoundError if the directory was removed."""
        # The exit record is written last, so look for it first: if it is there, all output is there.
        self._exit = ExitRecord.from_json(load_record(self._directory_fd, EXIT))
        self.over = self._exit is not None
        if os.fstat(self._directory_fd).st_nlink == 0:
            raise FileNotFoundError("the directory was removed")
        self._relist()

    def _relist(self) -> None:
        found: dict[str, list[int]] = {"index": [], "stdout": [], "stderr": [], "stdin": []}
        names = os.listdir(self._directory_fd)
        self._is_removed = REMOVED in names
        for name in names:
            if segment := parse_segment(name):
                found[segment[0]].append(segment[1])
        self._index.relist(found["index"])
        for number, name in STREAMS.items():
            self._streams[number].relist(found[name])

    # Where to begin

    def begin_at(self, ends: dict[int, int]) -> None:
        """Begin behind these positions."""
        self.ends = dict(ends)
        wanted = {number: ends[number] for number in self._selected}
        self._last = self._index.last_not(lambda record: _has_grown(record, wanted))

    def begin_since(self, time_ns: int) -> None:
        """Begin with what came at this time or later."""
        self._last = self._index.last_not(lambda record: record[1] >= time_ns)
        self.ends = {1: self._last[2], 2: self._last[3]}

    def has_later(self, until_ns: int | None) -> bool:
        """Whether there is a record later than `until_ns`: then bytes without a record and a time are later."""
        return until_ns is not None and self._index.end()[1] > until_ns

    def totals(self, until_ns: int | None = None) -> dict[int, int]:
        """Return where each stream ends now, or ended at `until_ns`."""
        last = self._index.last_not(lambda record: _is_later(record, until_ns))
        totals = {1: last[2], 2: last[3]}
        if self.over and not self.has_later(until_ns):
            for number in STREAMS:
                totals[number] = max(totals[number], self._streams[number].end(), self._written(number))
        return totals

    def _written(self, number: int) -> int:
        """Return how many bytes of a stream the task wrote, as far as its exit record says."""
        if self._exit is None:
            return 0
        return (self._exit.stdout_bytes if STREAMS[number] == "stdout" else self._exit.stderr_bytes) or 0

    # Reading

    def pieces(self, limit: int, until_ns: int | None = None) -> Iterator[Piece]:
        """Yield the output behind `ends`, in order, at most `limit` bytes at a time; `ends` moves along."""
        for number, record in enumerate(self._records(until_ns), 1):
            if number % _STRIDE == 0:
                yield None
            if follows(record, self._last):
                yield from self._take(record, limit)
        yield from self._end_run(limit)
        if self.over and not self.has_later(until_ns):
            yield from self._emit_unordered(self.totals(), limit)
        yield from self._tell_holes()

    def _records(self, until_ns: int | None) -> Iterator[IndexRecord]:
        """Yield the records behind `_last` up to `until_ns`; `_last` moves along where it leaps."""

        def leap() -> Iterator[IndexRecord] | None:
            wanted = {number: self._last[1 + number] for number in self._selected}
            last = self._index.last_not(lambda record: _has_grown(record, wanted) or _is_later(record, until_ns))
            if last[0] <= self._last[0]:
                return None
            self._last = last
            return self._index.after(last)

        for record in self._leaping(self._index.after(self._last), leap):
            if _is_later(record, until_ns):
                break
            yield record

    def _leaping(
        self, records: Iterator[IndexRecord], leap: Callable[[], Iterator[IndexRecord] | None]
    ) -> Iterator[IndexRecord]:
        """Yield records; after a long row of streams that are not selected, those of `leap()`, if it has any."""
        passed = 0
        while (record := next(records, None)) is not None:
            yield record
            passed = 0 if record[4] in self._selected else passed + 1
            if passed == _LEAP:
                passed = 0
                records = leap() or records

    def _take(self, record: IndexRecord, limit: int) -> Iterator[Piece]:
        """Add a record's bytes to the run before it, or begin a new run."""
        has_gap = record[0] != self._last[0] + 1
        self._last = record
        stream = record[4]
        if has_gap:
            yield from self._end_run(limit)
            yield from self._emit_unordered({1: record[2], 2: record[3]}, limit, may_be_dropped=True)
        elif stream in self._selected:
            end = record[1 + stream]
            if self._run and not self._joins(self._run, stream, end, limit):
                yield from self._end_run(limit)
            self._run = (stream, end, self._run[2] if self._run else record[1])
        elif stream != BASE:
            self.ends[stream] = max(self.ends[stream], record[1 + stream])

    def _end_run(self, limit: int) -> Iterator[Piece]:
        run, self._run = self._run, None
        if run:
            yield from self._emit(*run, limit)

    def _joins(self, run: tuple[int, int, int], stream: int, end: int, limit: int) -> bool:
        """Whether a record's bytes may be added to the run before it."""
        return stream == run[0] and not self._exact and end - self.ends[stream] <= limit

    def _emit(
        self, stream: int, end: int, time_ns: int, limit: int, *, may_be_dropped: bool = False
    ) -> Iterator[Piece]:
        if stream not in self._selected:
            self.ends[stream] = max(self.ends[stream], end)
            return
        for span in self._spans(stream, end):
            if span.fd < 0:
                # A live task's oldest groups may go while they are read; an ended task's output goes at once, or not.
                key = (stream, self.over and not self._is_removed and not may_be_dropped)
                self._holes[key] = self._holes.get(key, 0) + span.length
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
                # A file is made with its first bytes, so it may have been made since the last look.
                self._relist()
                span = next(self._streams[stream].spans(start, end))
            yield span
            start += span.length

    def _emit_unordered(self, ends: dict[int, int], limit: int, *, may_be_dropped: bool = False) -> Iterator[Piece]:
        stored = {1: 0, 2: 0}
        for stream in self._selected:
            stored[stream] = sum(span.length for span in self._spans(stream, ends[stream]) if span.fd >= 0)
        if any(stored.values()):
            yield from self._tell_holes()
            yield Unordered(stored[1], stored[2])
        for stream, end in ends.items():
            yield from self._emit(stream, end, 0, limit, may_be_dropped=may_be_dropped)

    def _tell_holes(self) -> Iterator[Piece]:
        holes, self._holes = self._holes, {}
        for (stream, is_lost), length in holes.items():
            yield Hole(stream, length, is_lost)

    def runs_backward(self, totals: dict[int, int], floor: dict[int, int]) -> Iterator[tuple[int, int, int] | None]:
        """Yield (stream, start, end) of each run of selected bytes, from `totals` back to `floor`.

        None: as in `pieces`.
        """
        later = dict(totals)
        pending: tuple[int, int, int] | None = None
        for number, record in enumerate(self._records_backward(later, totals), 1):
            if number % _STRIDE == 0:
                yield None
            for stream in (2, 1):
                start, end = max(record[1 + stream], floor[stream]), later[stream]
                if stream not in self._selected or start >= end:
                    continue
                if pending and pending[0] == stream and pending[2] - start <= _BACKWARD_RUN:
                    pending = (stream, start, pending[2])
                else:
                    if pending:
                        yield pending
                    pending = (stream, start, end)
                later[stream] = start
            if all(later[stream] <= floor[stream] for stream in self._selected):
                break
        if pending:
            yield pending

    def _records_backward(self, later: dict[int, int], totals: dict[int, int]) -> Iterator[IndexRecord]:
        """Yield the records up to `totals`, the newest first; `later` moves along."""

        def leap() -> Iterator[IndexRecord]:
            return self._up_to(lambda record: all(record[1 + n] >= later[n] for n in self._selected))

        yield from self._leaping(self._up_to(lambda record: _has_grown(record, totals)), leap)

    def _up_to(self, is_past: Callable[[IndexRecord], bool]) -> Iterator[IndexRecord]:
        """Yield the records for which `is_past` is false, the newest first."""
        last = self._index.last_not(is_past)
        return self._index.before((last[0] + 1, 0, 0, 0, 0))

    def blocks_backward(self, stream: int, start: int, end: int, limit: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of a run from its end on, without the bytes that are not stored any more."""
        for offset, span in self._streams[stream].spans_backward(start, end, limit):
            if span.fd >= 0:
                yield offset, os.pread(span.fd, span.length, span.position)


def _is_later(record: IndexRecord, until_ns: int | None) -> bool:
    return until_ns is not None and record[1] > until_ns


def _has_grown(record: IndexRecord, ends: dict[int, int]) -> bool:
    return any(record[1 + stream] > end for stream, end in ends.items())
