"""The spool: what the writer takes, whatever the disk does, the reader gives back, whatever became of the index."""

import errno
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.spool.index import RECORD_SIZE
from supervisor.spool.layout import index_name, segment_name
from supervisor.spool.reader import SpoolReader
from supervisor.spool.writer import SpoolWriter

Pieces = list[tuple[int, bytes]]
pieces_of_output = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=30)), max_size=12)
NAMES = {1: "stdout", 2: "stderr"}


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextmanager
def writer_in(path: Path) -> Iterator[SpoolWriter]:
    fd = os.open(path, os.O_RDONLY)
    writer = SpoolWriter(fd)
    try:
        yield writer
    finally:
        for opened in (*writer._files.values(), fd):  # A shim closes them by ending.
            os.close(opened)


def write(path: Path, pieces: Pieces, first_ns: int = 1000) -> None:
    with writer_in(path) as writer:
        for number, (stream, data) in enumerate(pieces):
            writer.write(stream, data, first_ns + number)
        writer.sync()


def read(path: Path, limit: int = 1 << 16, *, over: bool = True) -> tuple[list[tuple[int, bytes, int]], dict[int, int]]:
    reader = SpoolReader(str(path))
    try:
        parts = [
            (extent.stream, os.pread(extent.fd, extent.length, extent.position), extent.time_ns)
            for extent in reader.extents(limit, over=over)
        ]
        return parts, reader.ends
    finally:
        reader.close()


def joined(parts: list[tuple[int, bytes, int]], stream: int) -> bytes:
    return b"".join(data for number, data, _time_ns in parts if number == stream)


def whole(pieces: Pieces, stream: int) -> bytes:
    return b"".join(data for number, data in pieces if number == stream)


@given(pieces_of_output, st.integers(1, 50))
def test_what_was_written_is_read_in_the_same_order(pieces: Pieces, limit: int) -> None:
    with directory() as path:
        write(path, pieces)
        parts, ends = read(path, limit)
    assert b"".join(data for _stream, data, _time_ns in parts) == b"".join(data for _stream, data in pieces)
    assert all(len(data) <= limit for _stream, data, _time_ns in parts)
    assert [time_ns for _stream, _data, time_ns in parts] == sorted(time_ns for _stream, _data, time_ns in parts)
    for stream in NAMES:
        assert joined(parts, stream) == whole(pieces, stream)
        assert ends[stream] == len(whole(pieces, stream))


@given(pieces_of_output)
def test_plain_files_hold_the_bytes_and_nothing_else(pieces: Pieces) -> None:
    with directory() as path:
        write(path, pieces)
        for stream, name in NAMES.items():
            file = path / segment_name(name, 0)
            assert (file.read_bytes() if file.exists() else b"") == whole(pieces, stream)


@settings(max_examples=60)
@given(pieces_of_output.filter(bool), st.data())
def test_a_damaged_index_costs_order_but_no_byte(pieces: Pieces, data: st.DataObject) -> None:
    with directory() as path:
        write(path, pieces)
        index = path / index_name(0)
        raw = bytearray(index.read_bytes())
        if data.draw(st.booleans()):
            bit = data.draw(st.integers(0, len(raw) * 8 - 1))
            raw[bit // 8] ^= 1 << bit % 8
            good = bit // 8 // RECORD_SIZE
        else:
            del raw[data.draw(st.integers(0, len(raw))) :]
            good = len(raw) // RECORD_SIZE
        index.write_bytes(raw)
        parts, _ends = read(path)
        live, _ends = read(path, over=False)
    for stream in NAMES:
        assert joined(parts, stream) == whole(pieces, stream)
        assert joined(live, stream) == whole(pieces[:good], stream)
    known = b"".join(piece for _stream, piece in pieces[:good])
    assert b"".join(piece for _stream, piece, _time_ns in parts).startswith(known)


@given(pieces_of_output, st.integers(0, 100))
def test_bytes_that_never_reached_the_disk_are_left_out(pieces: Pieces, kept: int) -> None:
    """After a power cut the index may be ahead of the output."""
    with directory() as path:
        write(path, pieces)
        if (file := path / segment_name("stdout", 0)).exists():
            os.truncate(file, min(kept, file.stat().st_size))
        parts, ends = read(path)
    assert joined(parts, 1) == whole(pieces, 1)[:kept]
    assert joined(parts, 2) == whole(pieces, 2)
    assert ends == {1: len(joined(parts, 1)), 2: len(joined(parts, 2))}


def test_without_any_output_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read(tmp_path) == ([], {1: 0, 2: 0})
    (tmp_path / index_name(0)).touch()
    assert read(tmp_path) == ([], {1: 0, 2: 0})


def test_bytes_without_an_index_are_read_when_the_task_is_over(tmp_path: Path) -> None:
    (tmp_path / segment_name("stderr", 0)).write_bytes(b"lost and found")
    assert read(tmp_path, over=False) == ([], {1: 0, 2: 0})
    assert read(tmp_path) == ([(2, b"lost and found", 0)], {1: 0, 2: 14})


def test_a_file_made_after_the_reading_began_is_found(tmp_path: Path) -> None:
    """Files are made with their first bytes, so stderr's may come while somebody reads stdout's."""
    with writer_in(tmp_path) as writer:
        writer.write(1, b"one", 1)
        reader = SpoolReader(str(tmp_path))
        try:
            extents = reader.extents(100, over=False)
            writer.write(2, b"two", 2)
            assert [(e.stream, os.pread(e.fd, e.length, e.position)) for e in extents] == [(1, b"one"), (2, b"two")]
        finally:
            reader.close()


def test_a_clock_that_is_set_back_is_not_seen(tmp_path: Path) -> None:
    with writer_in(tmp_path) as writer:
        for time_ns, data in ((2000, b"a"), (1000, b"b"), (3000, b"c")):
            writer.write(1, data, time_ns)
            writer.write(2, data, time_ns)
    assert [time_ns for _stream, _data, time_ns in read(tmp_path)[0]] == [2000, 2000, 2000, 2000, 3000, 3000]


@given(pieces_of_output, st.lists(st.integers(0, 40), min_size=1, max_size=9).filter(any))
def test_a_disk_that_takes_what_it_likes_leaves_no_hole_and_nothing_twice(pieces: Pieces, takes: list[int]) -> None:
    """Every write takes some of the bytes, or none; the shim tries again until the chunk in hand is gone."""
    pwrite = os.pwrite
    moods = itertools.cycle(takes)

    def moody(fd: int, chunk: bytes, offset: int) -> int:
        taken = min(next(moods), len(chunk))
        if not taken:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(fd, chunk[:taken], offset)

    with directory() as path, writer_in(path) as writer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", moody)
        for number, (stream, chunk) in enumerate(pieces):
            with suppress(OSError):
                writer.write(stream, chunk, number)
            while writer.is_blocked:
                with suppress(OSError):
                    writer.flush()
        parts, _ends = read(path)
        assert not pieces or (path / index_name(0)).stat().st_size == len(pieces) * RECORD_SIZE
    assert b"".join(piece for _stream, piece, _time_ns in parts) == b"".join(piece for _stream, piece in pieces)
