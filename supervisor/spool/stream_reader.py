"""Find the bytes of one stream in its files. Runs in: front-end. Owns: one open file at a time."""

import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from supervisor.hostos.files import open_to_read
from supervisor.spool.layout import segment_name

__all__ = ["Span", "StreamReader"]


class Span(NamedTuple):
    """Neighbouring bytes of a stream: in the file `fd` from `position` on. If `fd` is -1, they are not stored."""

    fd: int
    position: int
    length: int


class StreamReader:
    """The files of a stream in an open directory, as the last `relist` found them; `close` it.

    The descriptor of a span is open until the next span is asked for.
    """

    def __init__(self, directory_fd: int, name: str) -> None:
        self._directory_fd = directory_fd
        self._name = name
        self._bases: list[int] = []
        self._open = (-1, -1)  # base, descriptor
        self._size = 0

    def close(self) -> None:
        """Close the file."""
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = (-1, -1)

    def relist(self, bases: list[int]) -> None:
        """Set the files that there are now, by the offset in their names."""
        self._bases = sorted(bases)

    def end(self) -> int:
        """Return where the last file ends; 0 if there is none."""
        return self._bases[-1] + self._size_of(self._bases[-1], 2**63) if self._bases else 0

    def spans(self, start: int, end: int) -> Iterator[Span]:
        """Yield the bytes from `start` to `end`, cut where one file ends and the next one begins."""
        while start < end:
            span = self._span(start, end)
            yield span
            start += span.length

    def spans_backward(self, start: int, end: int, limit: int) -> Iterator[tuple[int, Span]]:
        """Yield the same bytes from the end on, in spans of at most `limit` bytes, each with its offset."""
        while start < end:
            position = bisect_right(self._bases, end - 1)
            base = self._bases[position - 1] if position else 0
            stored = base + self._size_of(base, end - base) if position else 0
            if stored < end:  # A hole is one span, of any length.
                low = max(start, stored)
                yield low, Span(-1, 0, end - low)
            else:
                low = max(start, end - limit, base)
                yield low, Span(self._open[1], low - base, end - low)
            end = low

    def _span(self, start: int, end: int) -> Span:
        position = bisect_right(self._bases, start)
        until = min(end, self._bases[position]) if position < len(self._bases) else end
        if position:
            base = self._bases[position - 1]
            stored = min(until, base + self._size_of(base, until - base))
            if stored > start:
                return Span(self._open[1], start - base, stored - start)
        return Span(-1, 0, until - start)

    def _size_of(self, base: int, wanted: int) -> int:
        """Return how many bytes a file has; perhaps too few, but never fewer than `wanted` if it has those."""
        if self._open[0] != base:
            self.close()
            try:
                fd = open_to_read(segment_name(self._name, base), self._directory_fd)
            except FileNotFoundError:
                return 0
            self._open, self._size = (base, fd), 0
        if self._size < wanted:
            self._size = os.fstat(self._open[1]).st_size
        return self._size
