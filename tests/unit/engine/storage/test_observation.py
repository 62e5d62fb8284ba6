"""What the engine sees in a task's directory, and what it makes of it."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.engine.storage import task_directory as directory
from supervisor.engine.storage.observation import Finding, Observation, classify, observe, shim_of
from supervisor.spool.layout import DISK_ERROR_BYTE, NO_SPACE_BYTE, WATCH_BYTE
from tests.support.records import an_end, shim_record, spec

ID = "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42"
SPEC = spec(id=ID)

NAMED = shim_record()
STARTED = shim_record(task_pid=8)
ENDED = an_end()


@pytest.mark.parametrize(
    ("seen", "finding"),
    [
        (Observation(0, None, None), Finding.NEVER_STARTED),
        (Observation(7, None, None), Finding.STARTING),
        (Observation(7, NAMED, None), Finding.STARTING),
        (Observation(7, STARTED, None), Finding.RUNNING),
        (Observation(0, STARTED, None), Finding.LOST),
        # It may have executed the command and been killed right after.
        (Observation(0, NAMED, None), Finding.LOST),
        (Observation(0, STARTED, ENDED), Finding.OVER),
        (Observation(0, None, ENDED), Finding.OVER),
    ],
)
def test_each_observation_leads_to_its_finding(seen: Observation, finding: Finding) -> None:
    assert classify(seen) is finding


def test_every_observation_has_a_meaning_and_an_exit_record_ends_all_doubt() -> None:
    for holder, shim, ended in itertools.product((0, 7), (None, NAMED, STARTED), (None, ENDED)):
        finding = classify(Observation(holder, shim, ended))
        assert (finding is Finding.OVER) == (ended is not None)
        assert not (finding is Finding.LOST and holder)


# What is seen

# Locks the bytes it is told, says so, and waits for the end of its input.
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
for byte in map(int, sys.argv[2:]):
    fcntl.lockf(file, fcntl.LOCK_EX, 1, byte)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task's directory, in a state directory that is the working one."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("tasks")
    directory.create(ID, SPEC)
    (tmp_path / "tasks" / ID / "lock").touch()
    return tmp_path / "tasks" / ID


class Locked:
    """Another process that holds these bytes of the task's lock."""

    def __init__(self, place: Path, *held: int) -> None:
        command = [sys.executable, "-I", "-S", "-c", HOLDER, str(place / "lock"), *map(str, held)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> int:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"locked\n"
        return self.process.pid

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=10)


@pytest.mark.parametrize("byte", [NO_SPACE_BYTE, DISK_ERROR_BYTE])
def test_a_shim_says_by_its_lock_why_output_waits(made: Path, byte: int) -> None:
    with Locked(made, WATCH_BYTE) as pid:
        seen = observe(ID)
        assert (seen.holder, seen.blocked) == (pid, 0)
    with Locked(made, WATCH_BYTE, byte) as pid:
        seen = observe(ID)
        assert (seen.holder, seen.blocked) == (pid, byte)
        assert shim_of(ID) == pid


def test_only_the_task_s_own_shim_can_say_so(made: Path) -> None:
    with Locked(made, NO_SPACE_BYTE):
        assert observe(ID).blocked == 0
        with Locked(made, WATCH_BYTE) as shim:
            seen = observe(ID)
            assert (seen.holder, seen.blocked) == (shim, 0)
