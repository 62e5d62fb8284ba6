"""Write a task's output and its index. Runs in: shim. Owns: the open spool files of one task.

One chunk is in hand at a time. The part that the disk does not take stays in hand and is tried again at the same place,
so a full disk leaves neither a hole nor a doubled byte. Meanwhile the caller reads no further chunk.

The spool is a row of groups: an index file and the bytes that it is about, in one file a stream. Once a group is large
enough, the next one begins, after the end of a line if there is one. Once all groups together are too large, the oldest
of them is removed whole; the first always stays.
"""

import os
from collections.abc import Callable

from supervisor.hostos.files import open_to_read
from supervisor.spool.index import BASE, pack_record
from supervisor.spool.layout import OUTPUT_MODE, STREAMS, index_name, segment_name

__all__ = ["SMALLEST_GROUP", "UNCAPPED_GROUP", "SpoolWriter", "group_size"]

_INDEX = 0

# No group ends before it has so many bytes, so the cap need not be known before.
SMALLEST_GROUP = 64 * 1024
# Without a cap: removing a file of this size holds up the engine for a moment only.
UNCAPPED_GROUP = 256 * 1024 * 1024
# A group is this part of the cap, which is kept that precisely; and a spool has few more groups than this.
_GROUPS = 16
# A line may put off the end of a group until that has twice its size.
_LONGEST = 2
# For the records of what is written next.
_SLACK = 4096


def group_size(log_cap: int) -> int:
    """Return at how many bytes a group is to end; `log_cap` as in spec.json, 0 for none."""
    return max(SMALLEST_GROUP, log_cap // _GROUPS) if log_cap else UNCAPPED_GROUP


class _Group:
    """A group that is finished: its names, and how many bytes its files have."""

    __slots__ = ("bases", "sequence", "size")

    def __init__(self, sequence: int, bases: dict[int, int], size: int) -> None:
        self.sequence = sequence
        self.bases = bases
        self.size = size

    def names(self) -> list[str]:
        """Return the files, the index first.

        They are removed in this order: a reader that comes in between finds bytes without order; the other way round,
        bytes that look lost.
        """
        return [index_name(self.sequence), *(segment_name(STREAMS[n], base) for n, base in self.bases.items())]


class SpoolWriter:
    """The spool of one task, in its directory. A file is made when there is something to write to it.

    `log_cap()` returns how many bytes may be kept, 0 for any number; it is first called once there is much output.
    """

    def __init__(self, directory_fd: int, log_cap: Callable[[], int]) -> None:
        self._directory_fd = directory_fd
        self._log_cap = log_cap
        self._cap: int | None = None
        self._files: dict[int, int] = {}  # by stream number; _INDEX is the index
        self.ends = {1: 0, 2: 0}
        self.rotations = 0
        self._records = 0
        self._last_time_ns = 0
        # The group that is written to: where it begins in the index and in each stream.
        self._first = 0
        self._bases = {1: 0, 2: 0}
        self._index_end = 0
        self._kept: list[_Group] = []
        self._kept_size = 0
        # In hand: a chunk or, around the beginning of a group, its parts.
        self._parts: list[tuple[int, memoryview]] = []
        self._record = b""

    def __repr__(self) -> str:
        return f"<SpoolWriter {self.ends} {self._records} records{' blocked' if self.is_blocked else ''}>"

    @property
    def is_blocked(self) -> bool:
        """Whether something is still in hand."""
        return bool(self._parts)

    @property
    def stored(self) -> int:
        """How many bytes the files have, the index included."""
        return self._kept_size + self._size

    @property
    def _size(self) -> int:
        return sum(self.ends[stream] - base for stream, base in self._bases.items()) + self._index_end

    def write(self, stream: int, data: bytes, time_ns: int) -> None:
        """Append a chunk and its record; OSError when the disk did not take all of it: then call `flush` later."""
        assert not self.is_blocked
        # The index is searched by time, so times in it must not go back when the clock is set back.
        self._last_time_ns = max(self._last_time_ns, time_ns)
        view = memoryview(data)
        start = 0
        for cut in self._cuts(data):
            self._parts += [(stream, view[start:cut]), (BASE, view[:0])]
            start = cut
        self._parts.append((stream, view[start:]))
        self._parts = [part for part in self._parts if part[1] or part[0] == BASE]
        self._make_room(len(data))
        self.flush()

    def _cuts(self, data: bytes) -> list[int]:
        """Return where in a chunk groups begin: behind the first end of a line after their size, unless that is far."""
        if self._size + len(data) < SMALLEST_GROUP:
            return []
        if self._cap is None:
            self._cap = self._log_cap()
        limit = group_size(self._cap)
        cuts: list[int] = []
        start, size = 0, self._size
        while size + len(data) - start > limit:
            least, most = start + max(0, limit - size), start + max(0, limit * _LONGEST - size)
            cut = data.find(b"\n", max(start, least - 1), most) + 1
            if not cut:
                if most > len(data):
                    break
                cut = most
            cuts.append(cut)
            start, size = cut, 0
        return cuts

    def flush(self) -> None:
        """Write what is still in hand."""
        while self._parts:
            stream, rest = self._parts[0]
            if not self._record:
                if stream == BASE:
                    self._begin_group()
                else:
                    rest = self._write_data(stream, rest)
                self._record = pack_record(self._records, self._last_time_ns, self.ends[1], self.ends[2], stream)
            self._write_record()
            del self._parts[0]

    def _write_data(self, stream: int, rest: memoryview) -> memoryview:
        while rest:
            position = self.ends[stream] - self._bases[stream]
            done = os.pwrite(self._file(stream), rest, position)
            self.ends[stream] += done
            rest = rest[done:]
            self._parts[0] = (stream, rest)
        return rest

    def _write_record(self) -> None:
        while self._record:
            done = os.pwrite(self._file(_INDEX), self._record, self._index_end)
            self._index_end += done
            self._record = self._record[done:]
        self._records += 1

    def _file(self, number: int) -> int:
        if number not in self._files:
            name = index_name(self._first) if number == _INDEX else segment_name(STREAMS[number], self._bases[number])
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._files[number] = os.open(name, flags, OUTPUT_MODE, dir_fd=self._directory_fd)
        return self._files[number]

    # Groups

    def _begin_group(self) -> None:
        used = {stream: base for stream, base in self._bases.items() if stream in self._files}
        self._kept.append(_Group(self._first, used, self._size))
        self._kept_size += self._size
        for fd in self._files.values():
            os.close(fd)
        self._files = {}
        self._first, self._bases, self._index_end = self._records, dict(self.ends), 0
        self.rotations += 1

    def _make_room(self, length: int) -> None:
        """Remove the oldest groups but the first until there is room for so many bytes under the cap."""
        while self._cap and len(self._kept) > 1 and self.stored + length + _SLACK > self._cap:
            group = self._kept.pop(1)
            self._kept_size -= group.size
            for name in group.names():
                try:
                    os.unlink(name, dir_fd=self._directory_fd)
                except OSError:
                    pass  # It was removed by somebody else, or the disk takes no change: then the file stays.

    def sync(self) -> None:
        """Make all that was written durable; without output there is nothing to do."""
        for group in self._kept:
            for name in group.names():
                self._sync_closed(name)
        for fd in self._files.values():
            os.fdatasync(fd)

    def _sync_closed(self, name: str) -> None:
        try:
            fd = open_to_read(name, self._directory_fd)
        except FileNotFoundError:
            return
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)
