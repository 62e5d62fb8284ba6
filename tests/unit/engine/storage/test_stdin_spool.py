"""The stored input of a task: pieces at their place, once, and nothing left of it when the task is over."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.storage import stdin_spool
from supervisor.engine.storage.stdin_spool import Input, _StdinSpool
from tests.support.spool import scratch


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    os.mkfifo(tmp_path / "stdin")
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def piece(offset: int, data: bytes, *, end: bool = False, limit: int | None = None) -> Input:
    return Input(offset, data, end, limit)


def left(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.startswith("stdin."))


@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60)), max_size=20))
def test_pieces_that_come_twice_or_overlap_are_stored_once(text: bytes, cuts: list[tuple[int, int]]) -> None:
    with scratch() as path, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stdin_spool, "_SEGMENT_BYTES", 30)
        os.mkfifo(path / "stdin")
        fd = os.open(path, os.O_RDONLY)
        try:
            stored = 0
            for back, length in [*cuts, (0, len(text)), (200, len(text))]:
                offset = max(0, stored - back)
                answer = _StdinSpool(fd).add(piece(offset, text[offset : offset + length]))
                assert answer is not None
                stored = answer["stored"]
            _StdinSpool(fd).add(piece(stored, b"", end=True))
        finally:
            os.close(fd)
        assert stored == len(text)
        assert b"".join((path / name).read_bytes() for name in left(path)) == text


def test_a_task_that_ends_while_a_piece_is_added(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its shim has removed the input before the piece was there, and would not see it."""
    append = _StdinSpool._append

    def too_late(self: _StdinSpool, data: bytes) -> None:
        os.unlink(tmp_path / "stdin")
        append(self, data)

    monkeypatch.setattr(_StdinSpool, "_append", too_late)
    assert _StdinSpool(place).add(piece(0, b"abc")) == {"stored": 3, "closed": True, "over": False}
    assert left(tmp_path) == []


def test_a_task_whose_input_is_being_removed(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FIFO goes first: a client that goes on sending is told "closed", not that its offset is wrong."""
    _StdinSpool(place).add(piece(0, b"abc"))
    os.unlink(tmp_path / "stdin")
    answer = _StdinSpool(place).add(piece(3, b"def"))
    assert answer is not None
    assert answer["closed"]
    names = left(tmp_path)

    def vanishing(_fd: int) -> list[str]:
        for name in names:
            (tmp_path / name).unlink(missing_ok=True)
        return names

    monkeypatch.setattr(os, "listdir", vanishing)
    answer = _StdinSpool(place).add(piece(3, b"def"))
    assert answer is not None
    assert answer["closed"]
