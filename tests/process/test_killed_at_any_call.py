"""Shim and child are killed at each of their system calls in turn: no task runs twice, no record is half, none lies."""

import os
import signal
from pathlib import Path

import pytest

from levity.states import State
from supervisor.spool.layout import ENGINE_SOCKET, EXIT, SHIM
from tests.support.strace import NEEDS_STRACE, injecting
from tests.support.zygote import Zygote

CALLS = "openat,mknodat,write,pwrite64,fsync,fdatasync,rename,renameat,clone,execve,fcntl,unlinkat,waitid,exit_group"

pytestmark = NEEDS_STRACE


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "numbers", [range(first, 50, 4) for first in range(2, 6)], ids="every 4th call from {0.start}".format
)
def test_killed_at_any_call(tmp_path: Path, numbers: range) -> None:
    for number in numbers:
        ran = tmp_path / f"ran{number}"
        with Zygote(tmp_path) as zygote:
            zygote.run(["true"])  # Its rehearsal is over then.
            task_id = zygote.prepare(["/bin/sh", "-c", f"echo x >> {ran}; echo out"])
            with injecting(zygote, f"{CALLS}:signal=KILL:when={number}", tmp_path / "strace"):
                zygote.ask(task_id)
                try:
                    status = zygote.status(task_id)
                except ConnectionError:
                    status = -signal.SIGKILL  # It was the zygote's turn, too: as it saw the shim leave.
            assert status or zygote.record(task_id, EXIT) is not None
            check(zygote, task_id, ran)
        had_shim, was_run = zygote.record(task_id, SHIM) is not None, ran.exists()
        os.unlink(tmp_path / ENGINE_SOCKET)
        with Zygote(tmp_path) as zygote:
            # What the engine does next, if the task may never have run: it asks once more.
            zygote.ask(task_id)
            assert zygote.status(task_id) == 0
            check(zygote, task_id, ran)
            assert ran.exists() == (was_run or not had_shim)
            assert zygote.crash_log() == ""
        os.unlink(tmp_path / ENGINE_SOCKET)


def check(zygote: Zygote, task_id: str, ran: Path) -> None:
    """Look whether everything that is on the disk is true."""
    times = ran.read_text().count("x") if ran.exists() else 0
    assert times <= 1, "the task ran twice"
    record = zygote.record(task_id, EXIT)
    if times:
        assert zygote.record(task_id, SHIM) is not None
    if record is not None and record["exit_code"] == 0:
        assert times == 1
        assert record["state"] == State.FINISHED
        assert zygote.output(task_id) == (b"out\n", b"")
        assert record["stdout_bytes"] == 4
