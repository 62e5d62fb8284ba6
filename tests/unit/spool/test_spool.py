"""The spool: what the writer takes, whatever the disk does, the reader gives back, whatever became of the index."""

import errno
import itertools
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.spool.index import RECORD_SIZE
from supervisor.spool.layout import EXIT, REMOVED, index_name, segment_name
from supervisor.spool.reader import Hole, Piece, Unordered
from tests.support.spool import Part, fetch, finish, joined, opened, scratch, write, writer_in

Pieces = list[tuple[int, bytes]]
pieces_of_output = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=30)), max_size=12)
NAMES = {1: "stdout", 2: "stderr"}


def read(path: Path, limit: int = 1 << 16, *, over: bool = True) -> tuple[list[Part], list[Piece], dict[int, int]]:
    if over:
        finish(path)
    with opened(path) as reader:
        parts, told = fetch(reader.pieces(limit))
        return parts, told, reader.ends


def whole(pieces: Pieces, stream: int) -> bytes:
    return b"".join(data for number, data in pieces if number == stream)


@given(pieces_of_output, st.integers(1, 50), st.booleans(), st.booleans())
def test_output_is_read_in_the_order_it_was_written(pieces: Pieces, limit: int, over: bool, exact: bool) -> None:
    with scratch() as path:
        write(path, pieces)
        if over:
            finish(path)
        with opened(path, exact=exact) as reader:
            parts, told = fetch(reader.pieces(limit))
            ends = reader.ends
    assert told == []
    assert b"".join(data for _stream, data, _time_ns in parts) == b"".join(data for _stream, data in pieces)
    assert all(len(data) <= limit for _stream, data, _time_ns in parts)
    times = [time_ns for _stream, _data, time_ns in parts]
    assert times == sorted(times)
    if exact:
        assert set(times) == {1000 + number for number in range(len(pieces))}
    for stream in NAMES:
        assert joined(parts, stream) == whole(pieces, stream)
        assert ends[stream] == len(whole(pieces, stream))


@given(pieces_of_output, st.sampled_from([(1,), (2,)]))
def test_one_stream_alone(pieces: Pieces, selected: tuple[int]) -> None:
    with scratch() as path:
        write(path, pieces)
        with opened(path, selected) as reader:
            parts, told = fetch(reader.pieces(100))
    assert told == []
    assert {stream for stream, _data, _time_ns in parts} <= set(selected)
    assert joined(parts, selected[0]) == whole(pieces, selected[0])


@given(pieces_of_output)
def test_plain_files_hold_the_bytes_and_nothing_else(pieces: Pieces) -> None:
    with scratch() as path:
        write(path, pieces)
        for stream, name in NAMES.items():
            file = path / segment_name(name, 0)
            assert (file.read_bytes() if file.exists() else b"") == whole(pieces, stream)


@settings(max_examples=100)
@given(pieces_of_output.filter(bool), st.data())
def test_a_flipped_bit_in_the_index_costs_the_order_of_its_bytes_and_is_told(
    pieces: Pieces, data: st.DataObject
) -> None:
    with scratch() as path:
        write(path, pieces)
        index = path / index_name(0)
        raw = bytearray(index.read_bytes())
        bit = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[bit // 8] ^= 1 << bit % 8
        bad = bit // 8 // RECORD_SIZE
        index.write_bytes(raw)
        parts, told, _ends = read(path)
    # Bytes without their own record are put together with those of the next good one.
    lost = pieces[bad : bad + 2]
    assert told == [Unordered(len(whole(lost, 1)), len(whole(lost, 2)))]
    order = [*pieces[:bad], (1, whole(lost, 1)), (2, whole(lost, 2)), *pieces[bad + 2 :]]
    assert b"".join(piece for _stream, piece, _time_ns in parts) == b"".join(piece for _stream, piece in order)
    for stream in NAMES:
        assert joined(parts, stream) == whole(pieces, stream)


@settings(max_examples=20)
@given(pieces_of_output.filter(bool))
def test_an_index_that_ends_at_any_byte_costs_the_order_of_the_rest(pieces: Pieces) -> None:
    """As a shim leaves it that was killed while it wrote, and as a task that still runs shows it."""
    with scratch() as path:
        write(path, pieces)
        # Every byte of the last three records.
        for size in reversed(range(max(0, len(pieces) - 3) * RECORD_SIZE, len(pieces) * RECORD_SIZE)):
            os.truncate(path / index_name(0), size)
            good = size // RECORD_SIZE
            (path / EXIT).unlink(missing_ok=True)
            parts, told, _ends = read(path, over=False)
            assert (joined(parts, 1), told) == (whole(pieces[:good], 1), [])
            assert joined(parts, 2) == whole(pieces[:good], 2)
            parts, told, _ends = read(path)
            rest = pieces[good:]
            assert told == [Unordered(len(whole(rest, 1)), len(whole(rest, 2)))]
            order = [*pieces[:good], (1, whole(rest, 1)), (2, whole(rest, 2))]
            assert b"".join(piece for _stream, piece, _time_ns in parts) == b"".join(piece for _stream, piece in order)


@given(pieces_of_output, st.integers(0, 100))
def test_bytes_that_never_reached_the_disk_are_told(pieces: Pieces, kept: int) -> None:
    """After a power cut the index may be ahead of the output."""
    with scratch() as path:
        write(path, pieces)
        if (file := path / segment_name("stdout", 0)).exists():
            os.truncate(file, min(kept, file.stat().st_size))
        parts, told, ends = read(path)
    assert joined(parts, 1) == whole(pieces, 1)[:kept]
    assert joined(parts, 2) == whole(pieces, 2)
    missing = len(whole(pieces, 1)[kept:])
    assert sum(piece.length for piece in told if isinstance(piece, Hole) and piece.stream == 1) == missing
    assert ends == {1: len(whole(pieces, 1)), 2: len(whole(pieces, 2))}


def test_bytes_that_only_the_exit_record_knows_of_are_told(tmp_path: Path) -> None:
    write(tmp_path, [(1, b"abc"), (2, b"def")])
    for file in tmp_path.iterdir():
        file.unlink()
    finish(tmp_path, stdout_bytes=3, stderr_bytes=4)
    with opened(tmp_path) as reader:
        assert fetch(reader.pieces(100)) == ([], [Hole(1, 3, is_lost=True), Hole(2, 4, is_lost=True)])
        assert reader.ends == {1: 3, 2: 4}


def test_output_that_was_removed_on_purpose_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path, [(1, b"abc"), (2, b"def")])
    finish(tmp_path, stdout_bytes=3, stderr_bytes=3)
    (tmp_path / segment_name("stdout", 0)).unlink()
    with opened(tmp_path) as reader:
        assert fetch(reader.pieces(100)) == ([(2, b"def", 1001)], [Hole(1, 3, is_lost=True)])
    (tmp_path / REMOVED).touch()
    with opened(tmp_path) as reader:
        assert fetch(reader.pieces(100)) == ([(2, b"def", 1001)], [Hole(1, 3)])


def test_without_any_output_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read(tmp_path, over=False) == ([], [], {1: 0, 2: 0})
    (tmp_path / index_name(0)).touch()
    assert read(tmp_path) == ([], [], {1: 0, 2: 0})


def test_bytes_without_an_index_are_read_when_the_task_is_over(tmp_path: Path) -> None:
    (tmp_path / segment_name("stderr", 0)).write_bytes(b"lost and found")
    assert read(tmp_path, over=False) == ([], [], {1: 0, 2: 0})
    assert read(tmp_path) == ([(2, b"lost and found", 0)], [Unordered(0, 14)], {1: 0, 2: 14})


def test_bytes_without_a_record_are_not_before_any_moment_that_something_came_after(tmp_path: Path) -> None:
    write(tmp_path, [(1, b"a"), (1, b"b"), (1, b"c")])
    os.truncate(tmp_path / index_name(0), 2 * RECORD_SIZE)
    finish(tmp_path)
    for until_ns, expected in ((1000, b"a"), (1001, b"abc"), (5000, b"abc")):
        with opened(tmp_path) as reader:
            assert joined(fetch(reader.pieces(100, until_ns=until_ns))[0], 1) == expected


def test_a_file_made_after_the_reading_began_is_found(tmp_path: Path) -> None:
    """Files are made with their first bytes, so stderr's may come while a reader is in stdout's."""
    with writer_in(tmp_path) as writer:
        writer.write(1, b"one", 1)
        with opened(tmp_path) as reader:
            pieces = reader.pieces(100)
            writer.write(2, b"two", 2)
            assert fetch(pieces) == ([(1, b"one", 1), (2, b"two", 2)], [])


def test_a_removed_directory_is_seen(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    with opened(spool) as reader:
        spool.rmdir()
        with pytest.raises(FileNotFoundError):
            reader.refresh()


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

    with scratch() as path, writer_in(path) as writer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", moody)
        for number, (stream, chunk) in enumerate(pieces):
            with suppress(OSError):
                writer.write(stream, chunk, number)
            while writer.is_blocked:
                with suppress(OSError):
                    writer.flush()
        parts, told, _ends = read(path)
        assert not pieces or (path / index_name(0)).stat().st_size == len(pieces) * RECORD_SIZE
    assert told == []
    assert b"".join(piece for _stream, piece, _time_ns in parts) == b"".join(piece for _stream, piece in pieces)
