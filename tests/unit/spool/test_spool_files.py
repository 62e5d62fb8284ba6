"""Records: whole or not there; a newer one is refused, not misread."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.spool.files import insist, load_record, write_record
from supervisor.spool.layout import index_name, is_task_id, parse_segment, segment_name
from supervisor.spool.records import RecordVersionError
from supervisor.spool.tail import tail_start
from tests.support.paths import ROOT
from tests.support.spool import fetch, opened


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("durable", [True, False])
def test_a_written_record_is_loaded(fd: int, tmp_path: Path, *, durable: bool) -> None:
    write_record(fd, "a.json", {"x": 1, "text": "ü\udcff"}, durable=durable)
    write_record(fd, "a.json", {"x": 2, "text": "ü\udcff"}, durable=durable)
    assert load_record(fd, "a.json") == {"version": 1, "x": 2, "text": "ü\udcff"}
    assert os.listdir(tmp_path) == ["a.json"]


def test_none_is_there(fd: int) -> None:
    assert load_record(fd, "a.json") is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"\0" * 100, id="NULs, as after a power cut"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"7", id="a number"),
        pytest.param(b'"x"', id="a text"),
        pytest.param(b"{}", id="without a version"),
        pytest.param(b'{"version": "1"}', id="a version that is no number"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b"[" * 100_000, id="nested too deep"),
        pytest.param(b'{"version": 1', id="cut off behind its version"),
    ],
)
def test_a_damaged_record_is_none(fd: int, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert load_record(fd, "a.json") is None


def test_every_torn_record_is_none(fd: int, tmp_path: Path) -> None:
    write_record(fd, "a.json", {"state": "Finished", "exit_code": 0, "list": [1, {"x": None}]}, durable=False)
    data = (tmp_path / "a.json").read_bytes()
    for size in range(len(data)):
        (tmp_path / "a.json").write_bytes(data[:size])
        assert load_record(fd, "a.json") is None


def test_a_newer_record_is_refused(fd: int, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"version": 2, "state": "Finished"}')
    with pytest.raises(RecordVersionError, match=r"a\.json has version 2"):
        load_record(fd, "a.json")


def test_a_link_is_not_followed(fd: int, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"version": 1}')
    (tmp_path / "a.json").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        load_record(fd, "a.json")


def test_a_write_that_must_not_fail_is_tried_until_it_works(fd: int) -> None:
    refusals = [OSError(28, "full"), *(OSError(5, "broken") for _ in range(5))]
    slept: list[float] = []

    def action() -> str:
        if refusals:
            raise refusals.pop()
        return "done"

    assert insist(fd, action, slept.append) == "done"
    assert slept == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_nothing_is_tried_in_a_directory_that_was_removed(tmp_path: Path) -> None:
    place = tmp_path / "removed"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    try:
        place.rmdir()
        with pytest.raises(FileNotFoundError):
            insist(fd, lambda: os.open("name", os.O_RDONLY, dir_fd=fd))
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["spec.json", "shim.json", "exit.json"])
def test_a_record_without_its_required_keys_is_none(fd: int, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"version": 1}')
    assert load_record(fd, name) is None


def test_names() -> None:
    assert parse_segment(segment_name("stdout", 0)) == ("stdout", 0)
    assert parse_segment(segment_name("stderr", 1 << 60)) == ("stderr", 1 << 60)
    assert parse_segment(index_name(7)) == ("index", 7)
    assert parse_segment(segment_name("stdin", 7)) == ("stdin", 7)
    for name in (
        "stdout",
        "stdout.log",
        "stdout.1.log",
        "stdin2.0000000000000000.log",
        "exit.json",
        "xstdout." + "0" * 16,
    ):
        assert parse_segment(name) is None
    assert is_task_id("3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42")
    for text in (
        "",
        "rehearsal",
        "..",
        "3F2A9C1E-0b7d-4e55-9a51-2f0c6d1b8e42",
        "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42\n",
    ):
        assert not is_task_id(text)


def test_a_task_of_the_first_version_can_be_read() -> None:
    """What reached a disk once must be readable for ever: tests/data/spool-v1 was written by 0.1.0."""
    path = ROOT / "tests" / "data" / "spool-v1"
    fd = os.open(path, os.O_RDONLY)
    try:
        records = {name: load_record(fd, f"{name}.json") for name in ("spec", "shim", "exit")}
    finally:
        os.close(fd)
    assert records == json.loads((path / "expected.json").read_text())
    with opened(path, exact=True) as reader:
        parts, told = fetch(reader.pieces(1 << 16))
        ends = reader.ends
    assert told == []
    assert [part[:2] for part in parts] == [(1, b"one\n"), (2, b"two \xff\n"), (1, b"three\n"), (2, b"four\n")]
    assert ends == {1: 10, 2: 11}


def test_a_task_with_groups_and_a_hole_can_be_read() -> None:
    """tests/data/spool-v2 was written by the first levity that kept a log to a cap."""
    path = ROOT / "tests" / "data" / "spool-v2"
    expected = json.loads((path / "expected.json").read_text())
    fd = os.open(path, os.O_RDONLY)
    try:
        for name in ("spec", "shim", "exit"):
            assert load_record(fd, f"{name}.json") == expected[name]
    finally:
        os.close(fd)
    with opened(path, exact=True) as reader:
        parts, told = fetch(reader.pieces(1 << 16))
        assert [[stream, data.decode("latin-1")] for stream, data, _time_ns in parts] == expected["parts"]
        assert [[type(piece).__name__, *piece] for piece in told if piece] == expected["told"]
        assert reader.ends == {1: expected["ends"]["stdout"], 2: expected["ends"]["stderr"]}
        assert tail_start(reader, reader.totals(), 2, {1: 0, 2: 0}, lambda: None) == {1: 390, 2: 190}
