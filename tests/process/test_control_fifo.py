"""A shim and its control FIFO: it does what engines of its time and of before ask, and nothing on anything else."""

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from levity.states import State
from supervisor.engine.tasks.start_errors import start_error
from supervisor.spool.layout import SHIM, TASKS
from supervisor.spool.start_failure import EXEC
from tests.support.deadline import eventually
from tests.support.records import spec
from tests.support.strace import NEEDS_STRACE, injecting
from tests.support.zygote import Zygote
from tests.unit.spool.test_commands import FOREIGN_LINES


@pytest.fixture
def zygote(shared_zygote: Zygote) -> Zygote:
    """One zygote for all of them: nothing here ends it, and a task of one test is nothing to the next."""
    return shared_zygote


def test_a_shim_names_the_version_of_commands_that_it_understands(zygote: Zygote) -> None:
    task_id = zygote.start(["sleep", "600"])
    assert zygote.facts(task_id)["commands"] == 1
    zygote.signal(task_id)
    eventually(lambda: "signalled_ns" in zygote.facts(task_id), "the shim to say that it was told")
    assert (zygote.record(task_id, SHIM) or {"commands": 1})["commands"] == 1
    zygote.exit(task_id)


def test_a_line_that_is_no_command_changes_nothing(zygote: Zygote) -> None:
    task_id = zygote.start(["sleep", "600"])
    facts = zygote.facts(task_id)
    for line in FOREIGN_LINES:
        zygote.write_control(task_id, line + b"\n")
    zygote.write_control(task_id, b"x" * 9000 + b"\n")
    # Behind all of it, and behind half a line, a command; its grace period says that it was this one.
    zygote.write_control(task_id, b'{"do": "signal", "grace_s": 1')
    zygote.signal(task_id, grace_s=77)
    record = zygote.exit(task_id)
    assert (record["state"], record["signal"], record["grace_s"]) == (State.FINISHED, "SIGTERM", 77)
    assert facts["task_pid"] == record["task_pid"]


@pytest.mark.parametrize("grace_s", [None, 0.3])
def test_the_signal_of_an_older_engine_is_done(zygote: Zygote, grace_s: float | None) -> None:
    task_id = zygote.sh("trap '' TERM; echo ready; while :; do sleep 0.01; done", grace_s=0.2)
    zygote.wait_for_hint(task_id)
    eventually((zygote.path(task_id) / "stdout.0000000000000000.log").exists, "the trap")
    old: dict[str, Any] = {} if grace_s is None else {"grace_s": grace_s}
    zygote.write_control(task_id, json.dumps(old).encode() + b"\n")
    record = zygote.exit(task_id)
    assert (record["state"], record["grace_s"]) == (State.BRUTALLY_KILLED, 0.2 if grace_s is None else grace_s)


def test_the_stdin_of_an_older_engine_is_done(zygote: Zygote) -> None:
    task_id = zygote.sh("cat", stdin=True)
    path = zygote.path(task_id)
    (path / "stdin.0000000000000000.log").write_bytes(b"late")
    (path / "stdin.end").touch()
    zygote.write_control(task_id, b'{"stdin": true}\n')
    zygote.exit(task_id)
    assert zygote.output(task_id) == (b"late", b"")


PACKETS = [
    b"x",
    b"\xff" * 36,
    b" ",
    b"fork",
    b"fork ../../etc",
    b"fork 7",
    b"next",
    b"next 00000000-0000-0000-0000-000000000000",
    b"fork " + b"../" * 12,
    b'{"do": "fork"}',
]


@pytest.mark.parametrize("packet", PACKETS)
def test_a_packet_that_a_zygote_does_not_know_changes_nothing(zygote: Zygote, packet: bytes) -> None:
    tasks = os.listdir(zygote.directory / TASKS)
    zygote.send(packet)
    record = zygote.run(["/bin/sh", "-c", "exit 3"])
    assert record["exit_code"] == 3
    assert sorted(os.listdir(zygote.directory / TASKS)) == sorted([*tasks, record["id"]])


def test_a_zygote_that_an_older_engine_has_speaks_as_that_does(tmp_path: Path) -> None:
    """When levity is upgraded under an engine and its zygote is killed, the engine boots the new one as the old."""
    with Zygote(tmp_path, verbs=0) as zygote:
        task_id = zygote.prepare(["/bin/sh", "-c", "exit 4"])
        zygote.send(task_id.encode())
        assert zygote.packet() == f"gone {task_id} 0".encode()
        task_id = zygote.prepare(["/nowhere"])
        zygote.send(task_id.encode())
        assert zygote.packet() == f"gone {task_id} {0x80 | errno.ENOENT}".encode()
        task_id = zygote.prepare(["sleep", "600"])
        zygote.send(task_id.encode())
        zygote.facts(task_id)
        os.kill(zygote.shim(task_id), signal.SIGKILL)
        assert zygote.packet() == f"gone {task_id} -9".encode()


def test_a_shim_that_cannot_start_its_task_says_which_step_failed(zygote: Zygote) -> None:
    task_id = zygote.prepare(["x" * 300])
    zygote.ask(task_id)
    failure = zygote.failure(task_id)
    # An errno over 63 has no room in an exit status beside the step.
    assert (failure.stage, failure.errno) == (EXEC, errno.ENAMETOOLONG)


@NEEDS_STRACE
def test_a_disk_quota_is_told_as_what_it_is(zygote: Zygote, tmp_path: Path) -> None:
    zygote.run(["true"])  # The warm-up is over then.
    task_id = zygote.prepare(["true"])
    with injecting(zygote, "fsync:error=EDQUOT", tmp_path / "strace"):
        zygote.ask(task_id)
        failure = zygote.failure(task_id)
    assert (failure.stage, failure.errno) == ("sync", errno.EDQUOT)
    assert "disk quota exceeded" in start_error(failure, spec(id=task_id)).message
