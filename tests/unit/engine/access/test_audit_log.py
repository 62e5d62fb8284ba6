"""The audit: what a line holds, what comes of too many and of too long, of a disk that is full, and of restarts."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.access.audit_log import Audit, _capped_argv
from tests.support.audit import Clock, Make, lines, raw, seqs, start

pytestmark = pytest.mark.usefixtures("audit_place")

KEYS = ["seq", "time", "mono", "peer", "user", "role", "op", "task", "argv", "decision", "reason"]
LONGEST_LINE = 32 * 1024


# A line


def test_a_line_says_all_there_is_to_say(make_audit: Make, audit_clock: Clock) -> None:
    start(make_audit(), task="3f2a", argv=["ls", "-l"], reason="because")
    (line,) = lines()
    assert list(line) == KEYS
    assert line == {
        "seq": 1,
        "time": "2026-11-24T13:17:45.000000042Z",
        "mono": audit_clock.ns,
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


def test_only_levityd_can_read_the_audit_whatever_its_mode_was(make_audit: Make) -> None:
    Path("audit.log").touch()
    Path("audit.log").chmod(0o644)
    start(make_audit())
    assert stat.S_IMODE(Path("audit.log").stat().st_mode) == 0o600
    assert seqs() == [1]


NASTY = ["a\nb", "\r\x1b[2J\x7f\x00\x9b", "\u2028\u2029\x85", '"}\n{"seq":7}', "\udcff\ud800", "\U0001f600" * 4000]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_whatever_the_input_holds_it_is_one_line_of_ascii(make_audit: Make, text: str) -> None:
    audit = make_audit()
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


def test_a_huge_argument_is_cut_and_it_is_said_how_much(make_audit: Make) -> None:
    start(make_audit(), argv=["cat", "x" * 4_000_000, "y", "\u00e9"])
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
def test_what_is_no_list_of_texts_does_no_harm(make_audit: Make, odd: object) -> None:
    start(make_audit(), argv=odd, task=odd)
    (line,) = lines()
    assert list(line) == KEYS or "argv_cut" in line


def test_a_byte_that_is_no_text_is_one_byte(make_audit: Make) -> None:
    start(make_audit(), argv=["x" * 5000, os.fsdecode(b"\xff\xfe\xc3\xa9")])
    (line,) = lines()
    assert line["argv_cut"] == {"words": 1, "bytes": 5000 - len(line["argv"][0]) + 4}


def test_only_levityd_can_read_a_new_audit_from_the_first_moment(
    make_audit: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any) -> None:
        raise AssertionError("it was open to others")

    monkeypatch.setattr(os, "fchmod", refuse)
    start(make_audit())
    assert seqs() == [1]


def test_every_line_is_written_at_once(make_audit: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one piece: who reads along never sees a part of one."""
    written: list[bytes] = []
    write = os.write

    def record(fd: int, data: bytes) -> int:
        written.append(bytes(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", record)
    audit = make_audit()
    for _ in range(3):
        start(audit, argv=["x" * 3000])
    assert [piece.count(b"\n") for piece in written] == [1, 1, 1]
    assert all(piece.endswith(b"\n") for piece in written)


# Too many refusals


def test_refusals_are_written_up_to_a_burst_and_then_counted(make_audit: Make, audit_clock: Clock) -> None:
    audit = make_audit()
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
        audit_clock.ns += 20_000_000
        audit.write_refused(peer="10.0.0.1:9", reason="wrong token")
    later = lines()[102:]
    assert len(later) == 10
    assert [line.get("dropped") for line in later] == [4] * 10
    assert seqs() == list(range(1, 113))


def test_a_quiet_day_saves_up_one_burst(make_audit: Make, audit_clock: Clock) -> None:
    audit = make_audit()
    audit_clock.ns += 10**9 * 86400
    for _ in range(1000):
        audit.write_refused(peer="10.0.0.1:9", reason="wrong token")
    assert len(lines()) == 100


def test_denied_actions_are_never_dropped(make_audit: Make) -> None:
    audit = make_audit()
    for _ in range(300):
        start(audit, decision="denied")
    assert len(lines()) == 300


def test_the_count_is_told_when_it_may_be(make_audit: Make, audit_clock: Clock) -> None:
    audit = make_audit()
    audit.flush_dropped()
    assert not Path("audit.log").exists()
    for _ in range(107):
        audit.write_refused(peer="10.0.0.1:9", reason="wrong token")
    audit.flush_dropped()
    assert len(lines()) == 100
    audit_clock.ns += 100_000_000
    audit.flush_dropped()
    assert lines()[-1]["op"] == "audit"
    assert lines()[-1]["dropped"] == 7
    audit_clock.ns += 10**9
    audit.flush_dropped()
    assert len(lines()) == 101


def test_the_end_tells_the_count(make_audit: Make) -> None:
    audit = make_audit()
    for _ in range(107):
        audit.write_refused(peer="10.0.0.1:9", reason="wrong token")
    audit.close()
    assert lines()[-1]["dropped"] == 7
