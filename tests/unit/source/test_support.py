"""The tests' own tools: what guards the others must itself be known to bite."""

import os
import subprocess
import threading

import pytest

from tests.support.deadline import eventually
from tests.support.leaks import Snapshot


def test_eventually_returns_the_first_true_value() -> None:
    answers = iter([0, None, "", 7, 8])
    assert eventually(lambda: next(answers), "a number") == 7


def test_eventually_tells_what_was_missing_and_what_was_there_instead() -> None:
    def refuse() -> bool:
        raise ConnectionRefusedError("no server")

    with pytest.raises(AssertionError, match=r"0\.01 s in vain for a server; last: .*no server"):
        eventually(refuse, "a server", 0.01)


def test_a_snapshot_sees_a_descriptor() -> None:
    before = Snapshot()
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        assert before.news() == [f"descriptor {fd} -> /dev/null"]
    finally:
        os.close(fd)
    assert not before.news()


def test_a_snapshot_sees_a_child() -> None:
    before = Snapshot()
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            # For a moment it has no arguments yet.
            eventually(lambda: before.news()[0].startswith(f"child {child.pid}: sleep 60 ("), "the child to be seen")
        finally:
            child.kill()
    assert not before.news()


def test_a_snapshot_sees_a_thread() -> None:
    before = Snapshot()
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="forgotten")
    thread.start()
    try:
        assert before.news() == ["thread forgotten"]
    finally:
        over.set()
        thread.join()
    assert not before.news()
