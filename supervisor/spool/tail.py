"""Find where the last lines of a spool begin, reading backward. Runs in: front-end. Owns: nothing.

supervisor/frontend/operations/logs.py calls it for `levity logs -n`.
"""

from collections.abc import Callable

from supervisor.spool.reader import SpoolReader

__all__ = ["tail_start"]

_BLOCK = 64 * 1024


class _Count:
    """The lines found so far, going backward. The end of a line gives its place, so both streams have one order."""

    def __init__(self, lines: int) -> None:
        self._missing = lines
        self._ends = {1: 0, 2: 0}
        self._seen = {1: False, 2: False}
        self.starts: dict[int, int] = {}

    @property
    def is_done(self) -> bool:
        return not self._missing and all(stream in self.starts for stream, ends in self._ends.items() if ends)

    def has(self, stream: int) -> bool:
        """Whether a line of this stream is among them."""
        return self._ends[stream] > 0

    def take(self, stream: int, offset: int, block: bytes) -> None:
        """Count in the bytes of a stream that come right before those counted last."""
        if not self._seen[stream]:
            self._seen[stream] = True
            if not block.endswith(b"\n"):
                self._take_end(stream)  # The last line need not have an end.
        end = len(block)
        while stream not in self.starts and (end := block.rfind(b"\n", 0, end)) >= 0:
            if self._missing:
                self._take_end(stream)
            elif self._ends[stream]:
                self.starts[stream] = offset + end + 1
            else:
                return

    def _take_end(self, stream: int) -> None:
        if self._missing:
            self._missing -= 1
            self._ends[stream] += 1


def tail_start(
    reader: SpoolReader, totals: dict[int, int], lines: int, floor: dict[int, int], rest: Callable[[], None]
) -> dict[int, int]:
    """Return the positions behind which there are `lines` lines up to `totals`; none of them is before `floor`.

    `rest` is called from time to time, since there may be much to read.
    """
    count = _Count(lines)
    for run in reader.runs_backward(totals, floor):
        if count.is_done:
            break
        if run is None:
            rest()
            continue
        stream, start, end = run
        for offset, block in reader.blocks_backward(stream, start, end, _BLOCK):
            count.take(stream, offset, block)
    return {
        stream: count.starts.get(stream, floor[stream]) if count.has(stream) else total
        for stream, total in totals.items()
    }
