"""The audit: what a line holds, what comes of too many and of too long, of a disk that is full, and of restarts."""

import json
import os
import re
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.audit import Audit, _capped_argv

KEYS = ["seq", "time", "mono", "peer", "user", "role", "op", "task", "argv", "decision", "reason"]
# 2026-11-24T13:17:45.000000042Z
NOW_NS = 1_795_526_265 * 10**9 + 42
LONGEST_LINE = 32 * 1024


class Clock:
    """Nanoseconds that pass when they are told to."""

    def __init__(self) -> None:
        self.ns = 5 * 10**9

    def __call__(self) -> int:
        return self.ns


Make = Callable[..., Audit]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Make]:
    made: list[Audit] = []

    def make_one(**options: Any) -> Audit:
        made.append(Audit(now=lambda: NOW_NS, monotonic=clock, **options))
        return made[-1]

    yield make_one
    for audit in made:
        audit.close()


def start(audit: Audit, **changes: Any) -> None:
    event: dict[str, Any] = {"peer": "127.0.0.1:4000", "user": "alice", "role": "user", "decision": "allowed"}
    audit.write("task.start", **event | changes)


def raw(path: str = "audit.log") -> list[bytes]:
    """Return the lines, all of which are whole."""
    data = Path(path).read_bytes()
    assert not data or data.endswith(b"\n")
    return data.splitlines()


def lines(path: str = "audit.log") -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw(path)]


def seqs(path: str = "audit.log") -> list[int]:
    return [line["seq"] for line in lines(path)]


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file grow beyond `size`: a write that does not fit is cut short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# A line


def test_a_line_says_all_there_is_to_say(make: Make, clock: Clock) -> None:
    start(make(), task="3f2a", argv=["ls", "-l"], reason="because")
    (line,) = lines()
    assert list(line) == KEYS
    assert line == {
        "seq": 1,
        "time": "2026-11-24T13:17:45.000000042Z",
        "mono": clock.ns,
        "peer": "127.0.0.1:4000",
        "user": "alice",
        "role": "user",
        "op": "task.start",
        "task": "3f2a",
        "argv": ["ls", "-l"],
        "decision": "allowed",
        "reason": "because",
    }
    assert stat.S_IMODE(Path("audit.log").stat().st_mode) == 0o600


def test_the_file_is_for_nobody_else_whatever_it_was(make: Make) -> None:
    Path("audit.log").touch()
    Path("audit.log").chmod(0o644)
    start(make())
    assert stat.S_IMODE(Path("audit.log").stat().st_mode) == 0o600
    assert seqs() == [1]


NASTY = ["a\nb", "\r\x1b[2J\x7f\x00\x9b", "\u2028\u2029\x85", '"}\n{"seq":7}', "\udcff\ud800", "\U0001f600" * 4000]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_whatever_the_input_holds_it_is_one_line_of_ascii(make: Make, text: str) -> None:
    audit = make()
    audit.write(text, peer=text, user=text, role=text, task=text, argv=[text] * 3, decision=text, reason=text)
    (line,) = raw()
    assert len(line) < LONGEST_LINE
    assert re.fullmatch(rb"[ -~]+", line)
    assert json.loads(line)["peer"] == (text if len(text) <= 256 else text[:253] + "...")


@given(text=st.text(st.characters(), max_size=400), argv=st.lists(st.text(st.characters(), max_size=3000), max_size=30))
def test_a_line_is_bounded_and_argv_is_what_was_asked_for(text: str, argv: list[str]) -> None:
    Path("audit.log").unlink(missing_ok=True)
    audit = Audit()
    audit.write(text, peer=text, user=text, role=text, task=text, argv=argv, decision=text, reason=text)
    audit.close()
    (line,) = raw()
    assert len(line) < LONGEST_LINE
    found = json.loads(line)
    cut = found.get("argv_cut", {"words": 0, "bytes": 0})
    kept = found["argv"]
    assert len(kept) + cut["words"] == len(argv)
    assert all(word == whole for word, whole in zip(kept[:-1], argv, strict=False))
    assert all(whole.startswith(word) for word, whole in zip(kept, argv, strict=False))

    def size(words: list[str]) -> int:
        return sum(len(word.encode("utf-8", "replace")) for word in words)

    assert size(kept) + cut["bytes"] == size(argv)
    assert len(json.dumps(kept)) <= 4096 + 2 + len(kept)
    if cut["words"] or cut["bytes"]:
        assert len(json.dumps(kept)) > 4096 - 20


def test_a_huge_argument_is_cut_and_it_is_said_how_much(make: Make) -> None:
    start(make(), argv=["cat", "x" * 4_000_000, "y", "\u00e9"])
    (line,) = lines()
    assert line["argv"][0] == "cat"
    assert set(line["argv"][1]) == {"x"}
    assert line["argv_cut"] == {"words": 2, "bytes": 4_000_000 - len(line["argv"][1]) + 1 + 2}


def test_very_many_arguments_are_cut_though_they_are_empty() -> None:
    words, cut_words, cut_bytes = _capped_argv([""] * 100_000)
    assert len(words) + cut_words == 100_000
    assert len(words) == 4096 // 3
    assert cut_bytes == 0


ODD = [7, 10**5000, {"a": 1}, [["x"], None, 7, True, {}], [10**5000], "text", [[]] * 9999]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_what_is_no_list_of_texts_does_no_harm(make: Make, odd: object) -> None:
    start(make(), argv=odd, task=odd)
    (line,) = lines()
    assert list(line) == KEYS or "argv_cut" in line


def test_a_byte_that_is_no_text_is_one_byte(make: Make) -> None:
    start(make(), argv=["x" * 5000, os.fsdecode(b"\xff\xfe\xc3\xa9")])
    (line,) = lines()
    assert line["argv_cut"] == {"words": 1, "bytes": 5000 - len(line["argv"][0]) + 4}


def test_a_new_file_is_nobody_elses_from_the_first_moment(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any) -> None:
        raise AssertionError("it was open to others")

    monkeypatch.setattr(os, "fchmod", refuse)
    start(make())
    assert seqs() == [1]


def test_every_line_is_written_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one piece: who reads along never sees a part of one."""
    written: list[bytes] = []
    write = os.write

    def record(fd: int, data: bytes) -> int:
        written.append(bytes(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", record)
    audit = make()
    for _ in range(3):
        start(audit, argv=["x" * 3000])
    assert [piece.count(b"\n") for piece in written] == [1, 1, 1]
    assert all(piece.endswith(b"\n") for piece in written)


# Its number


def test_numbers_go_on_after_a_restart(make: Make) -> None:
    for turn in range(3):
        audit = make()
        start(audit)
        start(audit)
        audit.close()
        assert seqs() == list(range(1, 3 + 2 * turn))


@pytest.mark.parametrize(
    "tail", [b'{"seq":9,"time":"20', b"\0" * 70_000, b'{"seq":"9"}\n[9]\nnoise\n', b"x" * 200_000], ids=range(4)
)
def test_a_torn_last_line_is_ended_and_does_not_count(make: Make, tail: bytes) -> None:
    first = make()
    start(first)
    start(first)
    first.close()
    with Path("audit.log").open("ab") as file:
        file.write(tail)
    start(make(), peer="next")
    found = raw()
    assert json.loads(found[-1])["seq"] == 3
    assert json.loads(found[-1])["peer"] == "next"
    assert b"\n".join(found[2:-1]) == tail.rstrip(b"\n")


def test_a_line_that_lacks_only_its_newline_counts(make: Make) -> None:
    first = make()
    start(first)
    start(first)
    first.close()
    os.truncate("audit.log", Path("audit.log").stat().st_size - 1)
    start(make())
    assert seqs() == [1, 2, 3]


@pytest.mark.parametrize("current", [None, b"", b"to"])
def test_after_a_rotation_that_a_crash_cut_short_numbers_go_on(make: Make, current: bytes | None) -> None:
    first = make()
    for _ in range(3):
        start(first)
    first.close()
    Path("audit.log").rename("audit.log.2")  # Nor need there be a first.
    if current is not None:
        Path("audit.log").write_bytes(current)
    start(make())
    assert json.loads(raw()[-1])["seq"] == 4


def test_the_newest_number_counts_not_the_highest_file(make: Make) -> None:
    audit = make(size_limit=1000, keep=3)
    for _ in range(50):
        start(audit)
    audit.close()
    start(make())
    assert seqs()[-1] == 51


# Rotation


def test_it_is_rotated_by_size_and_the_oldest_goes(make: Make, place: Path) -> None:
    audit = make(size_limit=1000, keep=3)
    for _ in range(100):
        start(audit)
    names = ["audit.log.3", "audit.log.2", "audit.log.1", "audit.log"]
    assert sorted(path.name for path in place.iterdir()) == sorted(names)
    assert all(0 < Path(name).stat().st_size <= 1000 for name in names)
    assert all(stat.S_IMODE(Path(name).stat().st_mode) == 0o600 for name in names)
    found = [seq for name in names for seq in seqs(name)]
    assert found == list(range(found[0], 101))


def test_a_line_that_is_larger_than_a_file_may_be_is_written(make: Make) -> None:
    audit = make(size_limit=10)
    for _ in range(3):
        start(audit)
    assert not Path("audit.log.3").exists()
    assert [seqs(name) for name in ("audit.log.2", "audit.log.1", "audit.log")] == [[1], [2], [3]]


def test_what_cannot_be_rotated_grows_and_nothing_old_is_lost(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    audit = make(size_limit=1000, keep=3)
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


def test_a_last_step_that_fails_again_and_again_pushes_nothing_out(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = make(size_limit=1000, keep=4)
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
def test_a_file_that_others_take_away_is_begun_anew(make: Make, replace: Callable[[], None], creates: bool) -> None:
    audit = make()
    start(audit)
    replace()
    if creates:
        Path("audit.log").touch(0o644)
    start(audit)
    start(audit)
    assert seqs() == [2, 3]
    assert stat.S_IMODE(Path("audit.log").stat().st_mode) == 0o600


def test_a_file_that_others_truncate_goes_on(make: Make) -> None:
    audit = make()
    start(audit)
    os.truncate("audit.log", 0)
    start(audit)
    assert seqs() == [2]


# Too many refusals


def test_refusals_are_written_up_to_a_burst_and_then_counted(make: Make, clock: Clock) -> None:
    audit = make()
    for _ in range(1000):
        audit.write_refused(peer="10.0.0.1:9", reason="wrong token")
    found = lines()
    assert len(found) == 100
    assert found[0]["op"] == "authenticate"
    assert found[0]["decision"] == "denied"
    assert not any("dropped" in line for line in found)
    start(audit)
    assert lines()[-1]["dropped"] == 900
    start(audit)
    assert "dropped" not in lines()[-1]
    # Then ten a second.
    for _ in range(50):
        clock.ns += 20_000_000
        audit.write_refused(peer="10.0.0.1:9", reason="wrong token")
    later = lines()[102:]
    assert len(later) == 10
    assert [line.get("dropped") for line in later] == [4] * 10
    assert seqs() == list(range(1, 113))


def test_a_quiet_day_saves_up_one_burst(make: Make, clock: Clock) -> None:
    audit = make()
    clock.ns += 10**9 * 86400
    for _ in range(1000):
        audit.write_refused(peer="10.0.0.1:9", reason="wrong token")
    assert len(lines()) == 100


def test_what_is_not_refused_is_never_dropped(make: Make) -> None:
    audit = make()
    for _ in range(300):
        start(audit, decision="denied")
    assert len(lines()) == 300


def test_the_count_is_told_when_it_may_be(make: Make, clock: Clock) -> None:
    audit = make()
    audit.flush_dropped()
    assert not Path("audit.log").exists()
    for _ in range(107):
        audit.write_refused(peer="10.0.0.1:9", reason="wrong token")
    audit.flush_dropped()
    assert len(lines()) == 100
    clock.ns += 100_000_000
    audit.flush_dropped()
    assert lines()[-1]["op"] == "audit"
    assert lines()[-1]["dropped"] == 7
    clock.ns += 10**9
    audit.flush_dropped()
    assert len(lines()) == 101


def test_the_end_tells_the_count(make: Make) -> None:
    audit = make()
    for _ in range(107):
        audit.write_refused(peer="10.0.0.1:9", reason="wrong token")
    audit.close()
    assert lines()[-1]["dropped"] == 7


# A disk that does not take it


def test_a_line_that_a_full_disk_cut_short_is_finished_later(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    audit = make()
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


def test_a_file_taken_away_in_the_middle_of_a_line_has_it_begun_anew(make: Make) -> None:
    audit = make()
    start(audit)
    with full_at(Path("audit.log").stat().st_size + 50):
        start(audit, peer="twice")
    os.rename("audit.log", "old")
    start(audit)
    assert seqs() == [2, 3]
    assert lines()[0]["peer"] == "twice"


def test_it_is_not_rotated_in_the_middle_of_a_line(make: Make) -> None:
    first = make()
    start(first)
    first.close()
    size = Path("audit.log").stat().st_size
    audit = make(size_limit=2 * size)
    with full_at(size + 10):
        start(audit)
    assert audit.retry()
    assert seqs() == [1, 2]
    assert not Path("audit.log.1").exists()


def test_so_many_wait_and_the_rest_is_counted(make: Make, place: Path) -> None:
    """The first ones are kept: what somebody did who then filled the disk is of more interest than what followed."""
    (place / "audit.log").mkdir()
    audit = make()
    for number in range(1500):
        start(audit, peer=str(number))
    assert "1000 lines pending, 500 dropped" in repr(audit)
    (place / "audit.log").rmdir()
    start(audit, peer="last")
    found = lines()
    assert [line["peer"] for line in found] == [*map(str, range(1000)), "last"]
    assert found[-1]["dropped"] == 500
    assert [line["seq"] for line in found] == list(range(1, 1002))


def test_while_its_number_cannot_be_read_nothing_is_written(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that starts when there are no descriptors left gives no number a second time."""
    first = make()
    start(first)
    first.close()
    with monkeypatch.context() as patch:

        def refuse(*_args: Any, **_options: Any) -> int:
            raise OSError(24, "Too many open files")

        patch.setattr(os, "open", refuse)
        audit = make()
        start(audit)
        start(audit)
        assert audit.has_pending
    assert audit.retry()
    assert seqs() == [1, 2, 3]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("what", ["link", "directory", "fifo", "device"])
def test_what_is_no_file_is_not_written_to(make: Make, place: Path, what: str, late: bool) -> None:
    audit = make()
    if late:
        start(audit)
        os.unlink("audit.log")
    target = place / "target"
    target.write_text("precious")
    if what == "link":
        (place / "audit.log").symlink_to(target)
    elif what == "fifo":
        os.mkfifo("audit.log")
    elif what == "directory":
        (place / "audit.log").mkdir()
    else:
        (place / "audit.log").symlink_to("/dev/null")
    start(audit)
    assert audit.has_pending
    assert target.read_text() == "precious"
