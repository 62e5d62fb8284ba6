"""The index of a spool: which bytes came when and in which order. Runs in: shim, front-end. Never: does I/O.

A record says: after it, this much of stdout and of stderr had arrived, the last of it on `stream`, at this time. It
carries both running totals, so that any record found by a binary search is a complete position. 40 bytes,
little-endian: sequence u64, time u64 (ns since the epoch, never going back), stdout end u64, stderr end u64, stream
u32, CRC-32 u32.
"""

import struct
from binascii import crc32
from collections.abc import Iterator

__all__ = ["RECORD_SIZE", "IndexRecord", "pack_record", "unpack_records"]

_BODY = struct.Struct("<QQQQI")
_RECORD = struct.Struct("<QQQQII")
RECORD_SIZE = _RECORD.size

# sequence, time_ns, stdout end, stderr end, stream
IndexRecord = tuple[int, int, int, int, int]


def pack_record(sequence: int, time_ns: int, stdout_end: int, stderr_end: int, stream: int) -> bytes:
    """Return the 40 bytes of a record."""
    body = _BODY.pack(sequence, time_ns, stdout_end, stderr_end, stream)
    return body + crc32(body).to_bytes(4, "little")


def unpack_records(data: bytes, before: IndexRecord) -> Iterator[IndexRecord]:
    """Yield the records of `data` up to the first that is torn or cannot follow the one before it.

    `before` is the record that precedes `data`: (-1, 0, 0, 0, 0) at the start of the stream.
    """
    for position in range(0, len(data) - RECORD_SIZE + 1, RECORD_SIZE):
        raw = data[position : position + RECORD_SIZE]
        *fields, crc = _RECORD.unpack(raw)
        record: IndexRecord = tuple(fields)
        if crc32(raw[:-4]) != crc or not _follows(record, before):
            return
        yield record
        before = record


def _follows(record: IndexRecord, before: IndexRecord) -> bool:
    sequence, time_ns, stdout_end, stderr_end, stream = record
    if sequence != before[0] + 1 or time_ns < before[1]:
        return False
    grown = (stdout_end - before[2], stderr_end - before[3])
    return (grown[0] > 0 and grown[1] == 0) if stream == 1 else (stream == 2 and grown[0] == 0 and grown[1] > 0)
