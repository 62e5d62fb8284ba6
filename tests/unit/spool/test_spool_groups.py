"""Groups, the cap, and finding a place in a spool: beside a model that keeps everything in memory."""

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.spool import reader as reader_module
from supervisor.spool import writer as writer_module
from supervisor.spool.index import RECORD_SIZE
from supervisor.spool.index_reader import IndexReader
from supervisor.spool.layout import index_name, parse_segment, segment_name
from supervisor.spool.reader import Hole, SpoolReader, Unordered
from supervisor.spool.tail import tail_start
from supervisor.spool.writer import SMALLEST_GROUP, group_size
from tests.support.spool import fetch, finish, joined, opened, scratch, write, writer_in

Pieces = list[tuple[int, bytes]]
lines = st.lists(st.sampled_from([b"a\n", b"bb\n", b"\n", b"c", b"dd\ne\n", b"\nf"]), min_size=1, max_size=3).map(
    b"".join
)
many_pieces = st.lists(st.tuples(st.sampled_from([1, 2]), lines), max_size=40)

# A group of 200 bytes has room for few records, so that an example makes several.
SMALL = 200


@contextmanager
def small_groups() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_module, "SMALLEST_GROUP", SMALL)
        patch.setattr(writer_module, "UNCAPPED_GROUP", SMALL)
        patch.setattr(writer_module, "_SLACK", 40)
        yield


def whole(pieces: Pieces, stream: int) -> bytes:
    return b"".join(data for number, data in pieces if number == stream)


def no_rest() -> None:
    """Do what a caller without a client does now and then."""


def groups_of(path: Path) -> list[int]:
    segments = (parse_segment(name) for name in os.listdir(path))
    return sorted(segment[1] for segment in segments if segment and segment[0] == "index")


@given(many_pieces, st.integers(1, 60))
def test_a_reader_does_not_see_groups(pieces: Pieces, limit: int) -> None:
    with scratch() as path, small_groups():
        write(path, pieces)
        with opened(path) as reader:
            parts, told = fetch(reader.pieces(limit))
    assert told == []
    assert b"".join(data for _stream, data, _time_ns in parts) == b"".join(data for _stream, data in pieces)


@given(many_pieces)
def test_a_group_ends_with_a_line(pieces: Pieces) -> None:
    pieces = [(1, data + b"\n") for _stream, data in pieces]
    with scratch() as path, small_groups():
        write(path, pieces)
        files = sorted(path.glob("stdout.*"))
        for file in files:
            assert file.read_bytes().endswith(b"\n")
        assert b"".join(file.read_bytes() for file in files) == whole(pieces, 1)


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    with small_groups():
        write(tmp_path, [(1, b"x" * 50)] * 40)
        assert 3 <= len(groups_of(tmp_path)) <= 40 * 90 // SMALL
        with opened(tmp_path) as reader:
            assert joined(fetch(reader.pieces(1000))[0], 1) == b"x" * 2000


def test_the_cap_keeps_the_beginning_and_the_end(tmp_path: Path) -> None:
    cap = 1024 * 1024
    numbers = [b"%07d\n" % number for number in range(600_000)]
    chunks = [(1, b"".join(numbers[at : at + 500])) for at in range(0, len(numbers), 500)]
    most = 0
    with writer_in(tmp_path, cap) as writer:
        for number, (stream, data) in enumerate(chunks):
            writer.write(stream, data, number)
            most = max(most, sum(file.stat().st_size for file in tmp_path.iterdir()))
        assert writer.stored == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert cap * 0.9 < most <= cap
    with opened(tmp_path) as reader:
        parts, told = fetch(reader.pieces(1 << 20))
    (hole,) = told
    assert isinstance(hole, Hole)
    text = b"".join(numbers)
    kept = joined(parts, 1)
    assert len(kept) + hole.length == len(text)
    head = (tmp_path / segment_name("stdout", 0)).stat().st_size
    assert head > group_size(cap) * 0.9
    assert kept == text[:head] + text[head + hole.length :]
    # Nothing is cut in the middle of a line.
    assert all(len(line) == 7 for line in kept.splitlines())


@pytest.mark.parametrize("line", [b"x" * 79 + b"\n", b"x"], ids=["lines", "no end of a line"])
def test_the_cap_holds_whatever_comes_at_once(tmp_path: Path, line: bytes) -> None:
    cap = 1024 * 1024
    chunk = line * (256 * 1024 // len(line))
    with writer_in(tmp_path, cap) as writer:
        for number in range(40):
            writer.write(1, chunk, number)
            assert writer.stored == sum(file.stat().st_size for file in tmp_path.iterdir()) <= cap
    assert writer.stored > cap * 0.8


def test_below_the_cap_nothing_is_dropped(tmp_path: Path) -> None:
    cap = 1024 * 1024
    write(tmp_path, [(1, b"x" * 63 + b"\n" * 1)] * 10_000, log_cap=cap)
    with opened(tmp_path) as reader:
        parts, told = fetch(reader.pieces(cap))
    assert told == []
    assert len(joined(parts, 1)) == 640_000
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) > cap * 0.98


@given(many_pieces, st.integers(2, 8))
def test_whatever_is_dropped_the_rest_and_the_holes_are_all(pieces: Pieces, cap: int) -> None:
    with scratch() as path, small_groups():
        write(path, pieces, log_cap=cap * SMALL)
        with opened(path) as reader:
            parts, told = fetch(reader.pieces(100))
            ends = dict(reader.ends)
    for stream in (1, 2):
        holes = sum(piece.length for piece in told if isinstance(piece, Hole) and piece.stream == stream)
        assert len(joined(parts, stream)) + holes == len(whole(pieces, stream)) == ends[stream]
        assert not [piece for piece in told if isinstance(piece, Unordered)]


@settings(max_examples=60)
@given(many_pieces, st.sampled_from([(1,), (2,), (1, 2)]), st.integers(0, 5), st.integers(1, 4))
def test_one_stream_among_much_of_the_other(pieces: Pieces, selected: tuple[int, ...], count: int, leap: int) -> None:
    """What is not wanted is leapt over, and who waits is told now and then."""
    pieces = [piece for stream, data in pieces for piece in [(stream, data)] + [(1, b"x\n")] * 6]
    with scratch() as path, small_groups(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "_LEAP", leap)
        patch.setattr(reader_module, "_STRIDE", 2)
        write(path, pieces)
        with opened(path, selected) as reader:
            parts, told = fetch(reader.pieces(100))
            assert told == []
            for stream in (1, 2):
                assert joined(parts, stream) == (whole(pieces, stream) if stream in selected else b"")
        with opened(path, selected) as reader:
            starts = tail_start(reader, reader.totals(), count, {1: 0, 2: 0}, no_rest)
        mine = [piece for piece in pieces if piece[0] in selected]
        wanted = tail_of(mine, count)
        assert {stream: starts[stream] for stream in selected} == {stream: wanted[stream] for stream in selected}


def test_a_long_row_of_the_other_stream_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [(2, b"first\n"), *[(1, b"x")] * 30_000, (2, b"last\n")])
    read = 0
    real = IndexReader._read

    def counting(self: IndexReader, first: int, number: int, count: int) -> bytes:
        nonlocal read
        data = real(self, first, number, count)
        read += len(data) // RECORD_SIZE
        return data

    monkeypatch.setattr(IndexReader, "_read", counting)
    with opened(tmp_path, (2,)) as reader:
        assert joined(fetch(reader.pieces(100))[0], 2) == b"first\nlast\n"
    assert read < 15_000
    read = 0
    with opened(tmp_path, (2,)) as reader:
        assert tail_start(reader, reader.totals(), 2, {1: 0, 2: 0}, no_rest)[2] == 0
    assert read < 15_000


def test_a_reader_rests_between_many_records(tmp_path: Path) -> None:
    write(tmp_path, [(1 + number % 2, b"x") for number in range(25_000)])
    rests: list[None] = []
    with opened(tmp_path, (1,)) as reader:
        assert [piece for piece in reader.pieces(1 << 20) if piece is None] == [None] * 2
        tail_start(reader, reader.totals(), 10, {1: 0, 2: 0}, lambda: rests.append(None))
    assert len(rests) == 2


def test_a_hole_of_any_size_is_one_step(tmp_path: Path) -> None:
    with writer_in(tmp_path) as writer:
        writer.write(1, b"first\n", 1)
        writer.ends[1] += 10**14  # As if so much had been written since, and dropped.
        writer._begin_group()
        writer._record = b""
        writer._records += 1
        writer.write(1, b"last\n", 2)
    with opened(tmp_path) as reader:
        starts = tail_start(reader, reader.totals(), 2, {1: 0, 2: 0}, no_rest)
        assert starts[1] == 0


@given(many_pieces, st.data())
def test_reading_goes_on_anywhere(pieces: Pieces, data: st.DataObject) -> None:
    """After a break a client asks for what is behind the bytes that it has."""
    everything = b"".join(piece for _stream, piece in pieces)
    have = data.draw(st.integers(0, len(everything)))
    left, ends, rest = have, {1: 0, 2: 0}, b""
    for stream, piece in pieces:
        taken = min(left, len(piece))
        ends[stream] += taken
        left -= taken
        rest += piece[taken:]
    with scratch() as path, small_groups():
        write(path, pieces)
        with opened(path) as reader:
            reader.begin_at(ends)
            parts, told = fetch(reader.pieces(100))
    assert told == []
    assert b"".join(piece for _stream, piece, _time_ns in parts) == rest


@given(many_pieces, st.integers(-1, 41), st.integers(-1, 41))
def test_since_and_until(pieces: Pieces, since: int, until: int) -> None:
    with scratch() as path, small_groups():
        write(path, pieces)
        with opened(path) as reader:
            reader.begin_since(1000 + since)
            parts, _told = fetch(reader.pieces(100, until_ns=1000 + until))
            assert reader.ends == {stream: len(whole(pieces[: max(since, until + 1, 0)], stream)) for stream in (1, 2)}
    expected = b"".join(piece for _stream, piece in pieces[max(0, since) : until + 1])
    assert b"".join(piece for _stream, piece, _time_ns in parts) == expected


def tail_of(pieces: Pieces, count: int) -> dict[int, int]:
    """The model: number all line ends in the order in which they came."""
    ends: list[tuple[int, int]] = []
    position = {1: 0, 2: 0}
    for stream, piece in pieces:
        for byte in piece:
            position[stream] += 1
            if byte == 10:
                ends.append((stream, position[stream]))
    last = {
        stream: max((number for number, piece in enumerate(pieces) if piece[0] == stream), default=-1)
        for stream in (1, 2)
    }
    for stream in sorted((1, 2), key=lambda stream: last[stream]):
        if position[stream] and (stream, position[stream]) not in ends:
            # A line without end is where its last byte is.
            at = last[stream]
            place = sum(piece.count(b"\n") for _stream, piece in pieces[: at + 1])
            ends.insert(
                place
                + sum(1 for other in (1, 2) if other != stream and 0 <= last[other] < at and _open(pieces, other)),
                (stream, position[stream]),
            )
    chosen = ends[-count:] if count else []
    starts = dict(position)
    for stream in (1, 2):
        mine = [at for number, at in ends if number == stream]
        k = sum(number == stream for number, _at in chosen)
        if k:
            starts[stream] = mine[-k - 1] if k < len(mine) else 0
    return starts


def _open(pieces: Pieces, stream: int) -> bool:
    return not whole(pieces, stream).endswith(b"\n")


@settings(max_examples=200)
@given(many_pieces, st.integers(0, 12), st.booleans())
def test_the_last_lines(pieces: Pieces, count: int, over: bool) -> None:
    with scratch() as path, small_groups():
        write(path, pieces)
        if over:
            finish(path)
        with opened(path) as reader:
            starts = tail_start(reader, reader.totals(), count, {1: 0, 2: 0}, no_rest)
            assert starts == tail_of(pieces, count)
            reader.begin_at(starts)
            parts, _told = fetch(reader.pieces(100))
            found = sum(len(joined(parts, stream).splitlines()) for stream in (1, 2))
            assert found == min(count, sum(len(whole(pieces, stream).splitlines()) for stream in (1, 2)))


def test_the_last_lines_of_a_capped_log_are_found_without_the_middle(tmp_path: Path) -> None:
    with small_groups():
        write(tmp_path, [(1, b"%03d\n" % number) for number in range(200)], log_cap=5 * SMALL)
        with opened(tmp_path) as reader:
            starts = tail_start(reader, reader.totals(), 3, {1: 0, 2: 0}, no_rest)
            assert starts == {1: 4 * 197, 2: 0}
            # More than are left: over the hole.
            starts = tail_start(reader, reader.totals(), 150, {1: 0, 2: 0}, no_rest)
            reader.begin_at(starts)
            parts, told = fetch(reader.pieces(100))
            assert joined(parts, 1).endswith(b"199\n")
            assert len(told) <= 1


def test_a_group_that_is_dropped_by_half_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shim leaves it that is killed between two of its unlinks."""
    unlinks = itertools.count()
    unlink = os.unlink

    def once(name: str, *, dir_fd: int) -> None:
        if next(unlinks) == 0:
            unlink(name, dir_fd=dir_fd)

    with small_groups(), writer_in(tmp_path, 5 * SMALL) as writer:
        monkeypatch.setattr(os, "unlink", once)
        while next(unlinks) == 0:
            unlinks = itertools.count()
            writer.write(1, b"some line\n", 1)
        monkeypatch.undo()
    finish(tmp_path)
    with opened(tmp_path) as reader:
        parts, told = fetch(reader.pieces(1000))
    assert joined(parts, 1) == b"some line\n" * (reader.ends[1] // 10)
    assert [type(piece) for piece in told] == [Unordered]


def test_reading_a_group_that_is_dropped_meanwhile(tmp_path: Path) -> None:
    with small_groups(), writer_in(tmp_path, 5 * SMALL) as writer:
        for number in range(20):
            writer.write(1, b"%03d\n" % number, number)
        with opened(tmp_path) as reader:
            pieces = reader.pieces(4)
            first, _told = fetch(itertools.islice(pieces, 1))
            for number in range(20, 300):
                writer.write(1, b"%03d\n" % number, number)
            rest, told = fetch(pieces)
            reader.refresh()
            more, told_more = fetch(reader.pieces(1000))
            everything = joined(first + rest + more, 1)
            holes = sum(piece.length for piece in told + told_more if isinstance(piece, Hole))
            assert len(everything) + holes == 1200 == reader.ends[1]
            assert everything.startswith(b"000\n001\n")
            assert everything.endswith(b"298\n299\n")
            assert not [piece for piece in told + told_more if isinstance(piece, Unordered)]


@given(many_pieces, st.lists(st.integers(0, 40), min_size=1, max_size=9).filter(any))
def test_a_full_disk_around_a_new_group(pieces: Pieces, takes: list[int]) -> None:
    pwrite, real_open = os.pwrite, os.open
    moods = itertools.cycle(takes)

    def moody(fd: int, chunk: bytes, offset: int) -> int:
        taken = min(next(moods), len(chunk))
        if not taken:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(fd, chunk[:taken], offset)

    def moody_open(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT and not next(moods):
            raise OSError(errno.ENOSPC, "full")
        return real_open(name, flags, mode, dir_fd=dir_fd)

    with scratch() as path, small_groups(), writer_in(path) as writer:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pwrite", moody)
            patch.setattr(os, "open", moody_open)
            for number, (stream, chunk) in enumerate(pieces):
                with suppress(OSError):
                    writer.write(stream, chunk, number)
                while writer.is_blocked:
                    with suppress(OSError):
                        writer.flush()
        with opened(path) as reader:
            parts, told = fetch(reader.pieces(1000))
    assert told == []
    assert b"".join(data for _stream, data, _time_ns in parts) == b"".join(data for _stream, data in pieces)


@settings(max_examples=60)
@given(many_pieces, st.data())
def test_damage_anywhere_in_the_last_records_never_moves_a_byte(pieces: Pieces, data: st.DataObject) -> None:
    with scratch() as path, small_groups():
        write(path, pieces)
        for first in groups_of(path):
            index = path / index_name(first)
            raw = bytearray(index.read_bytes())
            if raw and data.draw(st.booleans()):
                position = data.draw(st.integers(0, len(raw) - 1))
                raw[position] ^= data.draw(st.integers(1, 255))
                index.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
        finish(path)
        with opened(path) as reader:
            parts, _told = fetch(reader.pieces(1000))
            starts = tail_start(reader, reader.totals(), 3, {1: 0, 2: 0}, no_rest)
    for stream in (1, 2):
        assert joined(parts, stream) == whole(pieces, stream)
        # A wrong offset would begin in the middle of a line.
        before = whole(pieces, stream)[: starts[stream]]
        assert not before or before.endswith(b"\n") or starts[stream] == len(whole(pieces, stream))


def test_no_group_ends_before_the_cap_is_known() -> None:
    assert group_size(1024 * 1024) == SMALLEST_GROUP
    assert group_size(1024**3) == 64 * 1024**2


def test_a_reader_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "exit.json").write_text('{"version": 99}')
    with pytest.raises(Exception, match="version 99"):
        SpoolReader(os.open(tmp_path, os.O_RDONLY))
    assert len(os.listdir("/proc/self/fd")) == before
