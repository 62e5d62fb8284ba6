"""A task's directory as the engine makes and sweeps it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.engine.storage import task_directory as directory
from tests.support.records import spec

ID = "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42"
SPEC = spec(id=ID)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The task's directory, in a state directory that is the working one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    return tmp_path / "tasks" / ID


@pytest.fixture
def made(place: Path) -> Iterator[Path]:
    directory.create(ID, SPEC)
    (place / "lock").touch()
    yield place
    directory.remove(ID)


# Made


@pytest.mark.parametrize("stdin", [False, True])
def test_a_task_has_a_fifo_for_its_input_if_it_is_to_be_fed(place: Path, stdin: bool) -> None:
    directory.create(ID, spec(id=ID, stdin=stdin))
    assert sorted(os.listdir(place)) == ["spec.json", *(["stdin"] if stdin else [])]
    loaded = directory.load_spec(ID)
    assert loaded is not None
    assert loaded.options.stdin is stdin
    if stdin:
        found = os.lstat(place / "stdin").st_mode
        assert stat.S_ISFIFO(found)
        assert stat.S_IMODE(found) == 0o600


def test_a_directory_that_cannot_be_completed_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkfifo", refuse)
    with pytest.raises(OSError, match="No space"):
        directory.create(ID, spec(id=ID, stdin=True))
    assert not place.exists()


# Swept

FAR = 2**40
OUTPUT = {
    "stdout.0000000000000000.log": 100,
    "stdout.0000000000000100.log": 50,
    "stderr.0000000000000000.log": 20,
    "index.0000000000000000": 80,
    "index.0000000000000002": 40,
}
INPUT = {"stdin.0000000000000000.log": 9, "stdin.end": 0, "stdin.closed": 0}
RESULTS = {"exit.json": 10, "shim.json": 10, "lock": 0, "notes.txt": 7, "stdout.log": 3}


def write(place: Path, files: dict[str, int]) -> None:
    for name, size in files.items():
        (place / name).write_bytes(b"x" * size)


def test_output_and_input_go_and_everything_else_stays(made: Path) -> None:
    write(made, OUTPUT | INPUT | RESULTS)
    assert directory.stored_bytes(ID) == sum(OUTPUT.values()) + 9
    assert directory.remove_output(ID, FAR) == (sum(OUTPUT.values()) + 9, True)
    assert sorted(os.listdir(made)) == sorted(["spec.json", "output.removed", *RESULTS])
    assert directory.stored_bytes(ID) == 0
    assert directory.remove_output(ID, FAR) == (0, True)


def test_the_index_goes_last(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(made, OUTPUT)
    gone: list[str] = []
    unlink = os.unlink

    def note(name: str, *, dir_fd: int) -> None:
        gone.append(name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", note)
    directory.remove_output(ID, FAR)
    monkeypatch.undo()
    assert sorted(gone) == sorted(OUTPUT)
    assert [name for name in gone if name.startswith("index")] == gone[-2:]


def test_a_directory_can_be_removed_bit_by_bit(made: Path) -> None:
    write(made, OUTPUT)
    found: list[int] = []
    while len(found) < 10:
        removed, is_all = directory.remove_output(ID, 70)
        found.append(removed)
        if is_all:
            break
    assert found == [120, 130, 40]  # stderr and a piece of stdout; another one and one of the index; the other one.
    assert directory.stored_bytes(ID) == 0


def test_nothing_is_left_to_do_where_the_directory_is_gone(place: Path) -> None:
    assert not place.exists()
    assert directory.remove_output(ID, FAR) == (0, True)


def test_a_link_in_the_place_of_a_directory_is_not_followed(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(other, OUTPUT)
    place.symlink_to(other)
    with pytest.raises(OSError, match=r"Too many levels|Not a directory"):
        directory.remove_output(ID, FAR)
    assert len(os.listdir(other)) == len(OUTPUT)


def test_a_link_in_the_place_of_output_is_removed_and_not_what_it_points_to(made: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"data" * 1000)
    (made / "stdout.0000000000000000.log").symlink_to(precious)
    assert directory.stored_bytes(ID) < 4000
    assert directory.remove_output(ID, FAR)[0] < 4000
    assert precious.read_bytes() == b"data" * 1000
