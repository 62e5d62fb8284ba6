"""A spool up to a moment: its bytes, its last lines and its totals agree about what belongs there."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.spool import reader as reader_module
from supervisor.spool.index import RECORD_SIZE
from supervisor.spool.layout import index_name
from supervisor.spool.reader import Hole
from supervisor.spool.tail import tail_start
from tests.support.spool import fetch, finish, joined, opened, scratch, write

Pieces = list[tuple[int, bytes]]
lines = st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([b"a\n", b"b\nc\n", b"d"])), max_size=12)
ALL = {1: 0, 2: 0}


def cut_index(path: Path, records: int) -> None:
    """Leave the first records only, as a shim does that was killed before it wrote the others."""
    if (index := path / index_name(0)).exists():
        os.truncate(index, records * RECORD_SIZE)


@given(lines, st.integers(0, 12), st.integers(-1, 13), st.booleans(), st.sampled_from([(1,), (2,), (1, 2)]))
def test_the_totals_are_where_a_reading_ends(
    pieces: Pieces, recorded: int, until: int, over: bool, selected: tuple[int, ...]
) -> None:
    with scratch() as path:
        write(path, pieces)
        cut_index(path, min(recorded, len(pieces)))
        if over:
            finish(path)
        with opened(path, selected) as reader:
            totals = reader.totals(1000 + until)
            parts, _told = fetch(reader.pieces(100, until_ns=1000 + until))
    assert {stream: len(joined(parts, stream)) for stream in selected} == {
        stream: totals[stream] for stream in selected
    }


@given(lines, st.integers(0, 12), st.integers(-1, 13), st.integers(0, 5))
def test_the_last_lines_are_no_more_than_were_asked_for(pieces: Pieces, recorded: int, until: int, count: int) -> None:
    with scratch() as path:
        write(path, pieces)
        cut_index(path, min(recorded, len(pieces)))
        finish(path)
        with opened(path) as reader:
            everything, _told = fetch(reader.pieces(100, until_ns=1000 + until))
        with opened(path) as reader:
            starts = tail_start(reader, reader.totals(1000 + until), count, dict(ALL), lambda: None)
            reader.begin_at(starts)
            parts, _told = fetch(reader.pieces(100, until_ns=1000 + until))
    found, there = (sum(len(joined(some, stream).splitlines()) for stream in (1, 2)) for some in (parts, everything))
    assert found == min(count, there)


@pytest.mark.parametrize("selected", [(1,), (2,), (1, 2)], ids=["stdout", "stderr", "both"])
def test_a_long_row_of_the_other_stream_leads_past_no_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selected: tuple[int, ...]
) -> None:
    """What has no record is later than the moment if anything that has one is, though of a stream not wanted."""
    monkeypatch.setattr(reader_module, "_LEAP", 5)
    write(tmp_path, [(1, b"a"), (2, b"b"), *[(2, b".")] * 20, (1, b"late")])
    cut_index(tmp_path, 22)
    finish(tmp_path)
    with opened(tmp_path, selected) as reader:
        parts, told = fetch(reader.pieces(100, until_ns=1015))
    assert (joined(parts, 1), joined(parts, 2)) == (
        b"a" if 1 in selected else b"",
        b"b" + b"." * 14 if 2 in selected else b"",
    )
    assert told == []


def test_what_the_exit_record_alone_knows_of_came_by_any_moment_that_nothing_came_after(tmp_path: Path) -> None:
    write(tmp_path, [(1, b"abc")])
    finish(tmp_path, stdout_bytes=5)
    for until_ns, told, total in ((999, [], 0), (1000, [Hole(1, 2, is_lost=True)], 5)):
        with opened(tmp_path) as reader:
            assert reader.totals(until_ns)[1] == total
            assert fetch(reader.pieces(100, until_ns=until_ns))[1] == told
