"""The index of a spool: which bytes came when and in which order. Runs in: shim, front-end. Never: does I/O.

A record says how much of stdout and of stderr had arrived by a certain time, and on which `stream` the last of it came.
It has both running totals, so that each record that a binary search finds is a complete position. 40 bytes,
little-endian: sequence u64, time u64 (ns since the epoch, never going back), stdout end u64, stderr end u64, stream
u32, CRC-32 u32.

The n-th record of an index file has the sequence number in the file's name plus n, so that a reader notices not only a
record that was changed, but also one that was moved. Each file but the first begins with a base record: stream 0, and
the totals at that point, so that the file can be read when those before it are gone.
"""

import struct
from binascii import crc32
from collections.abc import Iterator

__all__ = ["BASE", "RECORD_SIZE", "START", "IndexRecord", "follows", "good_records", "pack_record"]

_BODY = struct.Struct("<QQQQI")
_RECORD = struct.Struct("<QQQQII")
RECORD_SIZE = _RECORD.size
# The stream number of a base record: it begins a file, and no bytes belong to it.
BASE = 0
_STREAMS = frozenset({BASE, 1, 2})

# sequence, time_ns, stdout end, stderr end, stream
IndexRecord = tuple[int, int, int, int, int]

# The position before the first record.
START: IndexRecord = (-1, 0, 0, 0, BASE)


def pack_record(sequence: int, time_ns: int, stdout_end: int, stderr_end: int, stream: int) -> bytes:
    """Return the 40 bytes of a record."""
    body = _BODY.pack(sequence, time_ns, stdout_end, stderr_end, stream)
    return body + crc32(body).to_bytes(4, "little")


def good_records(data: bytes, sequence: int) -> Iterator[IndexRecord]:
    """Yield the records of `data` that are whole and in their place; `sequence` is that of the first."""
    whole = len(data) // RECORD_SIZE * RECORD_SIZE
    view = memoryview(data)
    for number, record in enumerate(_RECORD.iter_unpack(view[:whole])):
        start = number * RECORD_SIZE
        is_ours = record[0] == sequence + number and record[4] in _STREAMS
        if is_ours and crc32(view[start : start + _BODY.size]) == record[5]:
            yield record[:5]


def follows(record: IndexRecord, before: IndexRecord) -> bool:
    """Whether a good record can come after another one. If some between them are missing, both streams may have grown.

    It is False only in an index that was put together from several spools.
    """
    sequence, time_ns, stdout_end, stderr_end, stream = record
    grown = (stdout_end - before[2], stderr_end - before[3])
    if sequence <= before[0] or time_ns < before[1] or min(grown) < 0:
        return False
    if sequence > before[0] + 1:
        return True
    return bool(grown[0]) == (stream == 1) and bool(grown[1]) == (stream == 2)
