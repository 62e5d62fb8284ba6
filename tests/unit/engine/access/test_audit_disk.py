"""The audit and its file: numbers, rotation, a disk that does not take it, and others who touch it."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import Make, full_at, lines, raw, seqs, start

pytestmark = pytest.mark.usefixtures("audit_place")

# Its number


def test_numbers_go_on_after_a_restart(make_audit: Make) -> None:
    for turn in range(3):
        audit = make_audit()
        start(audit)
        start(audit)
        audit.close()
        assert seqs() == list(range(1, 3 + 2 * turn))


@pytest.mark.parametrize(
    "tail", [b'{"seq":9,"time":"20', b"\0" * 70_000, b'{"seq":"9"}\n[9]\nnoise\n', b"x" * 200_000], ids=range(4)
)
def test_a_torn_last_line_is_ended_and_does_not_count(make_audit: Make, tail: bytes) -> None:
    first = make_audit()
    start(first)
    start(first)
    first.close()
    with Path("audit.log").open("ab") as file:
        file.write(tail)
    start(make_audit(), peer="next")
    found = raw()
    assert json.loads(found[-1])["seq"] == 3
    assert json.loads(found[-1])["peer"] == "next"
    assert b"\n".join(found[2:-1]) == tail.rstrip(b"\n")


def test_a_line_that_lacks_only_its_newline_counts(make_audit: Make) -> None:
    first = make_audit()
    start(first)
    start(first)
    first.close()
    os.truncate("audit.log", Path("audit.log").stat().st_size - 1)
    start(make_audit())
    assert seqs() == [1, 2, 3]


@pytest.mark.parametrize("current", [None, b"", b"to"])
def test_after_a_rotation_that_a_crash_cut_short_numbers_go_on(make_audit: Make, current: bytes | None) -> None:
    first = make_audit()
    for _ in range(3):
        start(first)
    first.close()
    Path("audit.log").rename("audit.log.2")  # Nor need there be a first.
    if current is not None:
        Path("audit.log").write_bytes(current)
    start(make_audit())
    assert json.loads(raw()[-1])["seq"] == 4


def test_the_newest_number_counts_not_the_highest_file(make_audit: Make) -> None:
    audit = make_audit(size_limit=1000, keep=3)
    for _ in range(50):
        start(audit)
    audit.close()
    start(make_audit())
    assert seqs()[-1] == 51


# Rotation


def test_the_audit_is_rotated_by_size_and_the_oldest_goes(make_audit: Make, audit_place: Path) -> None:
    audit = make_audit(size_limit=1000, keep=3)
    for _ in range(100):
        start(audit)
    names = ["audit.log.3", "audit.log.2", "audit.log.1", "audit.log"]
    assert sorted(path.name for path in audit_place.iterdir()) == sorted(names)
    assert all(0 < Path(name).stat().st_size <= 1000 for name in names)
    assert all(stat.S_IMODE(Path(name).stat().st_mode) == 0o600 for name in names)
    found = [seq for name in names for seq in seqs(name)]
    assert found == list(range(found[0], 101))


def test_a_line_that_is_larger_than_a_file_may_be_is_written(make_audit: Make) -> None:
    audit = make_audit(size_limit=10)
    for _ in range(3):
        start(audit)
    assert not Path("audit.log.3").exists()
    assert [seqs(name) for name in ("audit.log.2", "audit.log.1", "audit.log")] == [[1], [2], [3]]


def test_an_audit_that_cannot_be_rotated_grows_and_loses_nothing_old(
    make_audit: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    audit = make_audit(size_limit=1000, keep=3)
    while not Path("audit.log.2").exists():
        start(audit)
    kept = Path("audit.log.1").read_bytes(), Path("audit.log.2").read_bytes()
    Path("audit.log.1").rename("one")
    Path("audit.log.2").rename("two")
    # Nothing can be renamed to this.
    Path("audit.log.1").mkdir()
    (Path("audit.log.1") / "x").touch()
    Path("audit.log.2").mkdir()
    (Path("audit.log.2") / "x").touch()
    Path("audit.log.3").mkdir()
    (Path("audit.log.3") / "x").touch()
    before = seqs()[-1]
    for _ in range(30):
        start(audit)
    assert seqs()[-1] == before + 30
    assert Path("audit.log").stat().st_size > 2000
    assert capfd.readouterr().err.count("cannot be renamed") == 1
    for number in (1, 2, 3):
        (Path(f"audit.log.{number}") / "x").unlink()
        Path(f"audit.log.{number}").rmdir()
    Path("one").rename("audit.log.1")
    Path("two").rename("audit.log.2")
    start(audit)
    assert seqs() == [before + 31]
    assert (Path("audit.log.2").read_bytes(), Path("audit.log.3").read_bytes()) == kept


def test_a_last_step_that_fails_again_and_again_pushes_nothing_out(
    make_audit: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = make_audit(size_limit=1000, keep=4)
    while not Path("audit.log.3").exists():
        start(audit)
    rename = os.rename

    def refuse(source: str, target: str) -> None:
        if source == "audit.log":
            raise PermissionError(1, "no")
        rename(source, target)

    oldest = Path("audit.log.3").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        for _ in range(40):
            start(audit)
    assert Path("audit.log.4").read_bytes() == oldest


@pytest.mark.parametrize(
    "replace", [lambda: os.unlink("audit.log"), lambda: os.rename("audit.log", "old")], ids=["removed", "renamed"]
)
@pytest.mark.parametrize("creates", [False, True])
def test_a_file_that_others_take_away_is_begun_anew(
    make_audit: Make, replace: Callable[[], None], creates: bool
) -> None:
    audit = make_audit()
    start(audit)
    replace()
    if creates:
        Path("audit.log").touch(0o644)
    start(audit)
    start(audit)
    assert seqs() == [2, 3]
    assert stat.S_IMODE(Path("audit.log").stat().st_mode) == 0o600


def test_a_file_that_others_truncate_goes_on(make_audit: Make) -> None:
    audit = make_audit()
    start(audit)
    os.truncate("audit.log", 0)
    start(audit)
    assert seqs() == [2]


# A disk that does not take it


def test_a_line_that_a_full_disk_cut_short_is_finished_later(
    make_audit: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    audit = make_audit()
    start(audit)
    size = Path("audit.log").stat().st_size
    for more in (100, 120, 130):
        with full_at(size + more):
            start(audit, peer=f"at {more}")
            assert audit.has_pending
            assert not audit.retry()
        assert Path("audit.log").stat().st_size == size + more
    assert capfd.readouterr().err.count("audit.log cannot be written (File too large)") == 1
    assert audit.retry()
    assert not audit.has_pending
    assert [line["peer"] for line in lines()[1:]] == ["at 100", "at 120", "at 130"]
    assert seqs() == [1, 2, 3, 4]
    with full_at(Path("audit.log").stat().st_size):
        start(audit)
        start(audit)
    assert capfd.readouterr().err.count("\n") == 1


def test_a_file_taken_away_in_the_middle_of_a_line_has_it_begun_anew(make_audit: Make) -> None:
    audit = make_audit()
    start(audit)
    with full_at(Path("audit.log").stat().st_size + 50):
        start(audit, peer="twice")
    os.rename("audit.log", "old")
    start(audit)
    assert seqs() == [2, 3]
    assert lines()[0]["peer"] == "twice"


def test_the_audit_is_not_rotated_in_the_middle_of_a_line(make_audit: Make) -> None:
    first = make_audit()
    start(first)
    first.close()
    size = Path("audit.log").stat().st_size
    audit = make_audit(size_limit=2 * size)
    with full_at(size + 10):
        start(audit)
    assert audit.retry()
    assert seqs() == [1, 2]
    assert not Path("audit.log.1").exists()


def test_so_many_wait_and_the_rest_is_counted(make_audit: Make, audit_place: Path) -> None:
    """The first ones are kept: what an attacker did before filling the disk is of more interest than what followed."""
    (audit_place / "audit.log").mkdir()
    audit = make_audit()
    for number in range(1500):
        start(audit, peer=str(number))
    assert "1000 lines pending, 500 dropped" in repr(audit)
    (audit_place / "audit.log").rmdir()
    start(audit, peer="last")
    found = lines()
    assert [line["peer"] for line in found] == [*map(str, range(1000)), "last"]
    assert found[-1]["dropped"] == 500
    assert [line["seq"] for line in found] == list(range(1, 1002))


def test_while_its_number_cannot_be_read_nothing_is_written(make_audit: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that starts when there are no descriptors left gives no number a second time."""
    first = make_audit()
    start(first)
    first.close()
    with monkeypatch.context() as patch:

        def refuse(*_args: Any, **_options: Any) -> int:
            raise OSError(24, "Too many open files")

        patch.setattr(os, "open", refuse)
        audit = make_audit()
        start(audit)
        start(audit)
        assert audit.has_pending
    assert audit.retry()
    assert seqs() == [1, 2, 3]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("what", ["link", "directory", "fifo", "device"])
def test_an_audit_that_is_no_file_is_not_written_to(make_audit: Make, audit_place: Path, what: str, late: bool) -> None:
    audit = make_audit()
    if late:
        start(audit)
        os.unlink("audit.log")
    target = audit_place / "target"
    target.write_text("precious")
    if what == "link":
        (audit_place / "audit.log").symlink_to(target)
    elif what == "fifo":
        os.mkfifo("audit.log")
    elif what == "directory":
        (audit_place / "audit.log").mkdir()
    else:
        (audit_place / "audit.log").symlink_to("/dev/null")
    start(audit)
    assert audit.has_pending
    assert target.read_text() == "precious"
