"""Write and read spools without a shim or a daemon. Owns: the open files of one writing or reading."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from supervisor.spool.layout import EXIT
from supervisor.spool.reader import Extent, Piece, SpoolReader
from supervisor.spool.writer import SpoolWriter

__all__ = ["Part", "fetch", "finish", "joined", "opened", "scratch", "write", "writer_in"]

# Stream, bytes and time of an extent; what else a reader tells, as it is.
Part = tuple[int, bytes, int]


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a directory for one example of a property."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextmanager
def writer_in(path: Path, log_cap: int = 0) -> Iterator[SpoolWriter]:
    """Open a writer; a shim's files are closed by its end."""
    fd = os.open(path, os.O_RDONLY)
    writer = SpoolWriter(fd, lambda: log_cap)
    try:
        yield writer
    finally:
        for file in (*writer._files.values(), fd):
            os.close(file)


def write(path: Path, pieces: Iterable[tuple[int, bytes]], log_cap: int = 0, first_ns: int = 1000) -> None:
    """Write a spool, a nanosecond later each piece."""
    with writer_in(path, log_cap) as writer:
        for number, (stream, data) in enumerate(pieces):
            writer.write(stream, data, first_ns + number)
        writer.sync()


def finish(path: Path, **totals: int) -> None:
    """Store that the task is over."""
    record = {"version": 1, "state": "Finished", "exit_code": 0, "signal": None, "reason": "", "ended_ns": 1}
    (path / EXIT).write_text(json.dumps(record | totals))


@contextmanager
def opened(path: Path, selected: Iterable[int] = (1, 2), *, exact: bool = False) -> Iterator[SpoolReader]:
    """Open a reader."""
    reader = SpoolReader(os.open(path, os.O_RDONLY), tuple(selected), exact=exact)
    try:
        yield reader
    finally:
        reader.close()


def fetch(pieces: Iterable[Piece]) -> tuple[list[Part], list[Piece]]:
    """Return the output, and what was told besides."""
    parts: list[Part] = []
    told: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Extent):
            parts.append((piece.stream, os.pread(piece.fd, piece.length, piece.position), piece.time_ns))
        elif piece is not None:
            told.append(piece)
    return parts, told


def joined(parts: Iterable[Part], stream: int) -> bytes:
    """Return all bytes of a stream."""
    return b"".join(data for number, data, _time_ns in parts if number == stream)
