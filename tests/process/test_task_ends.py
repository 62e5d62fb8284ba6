"""How a task ends, and what is recorded of it: with real processes and a real zygote, without levityd."""

import os
import signal
import time

import pytest

from levity.states import State
from tests.support.deadline import eventually
from tests.support.tasks import alive
from tests.support.zygote import Zygote

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.02; done"


def test_exit_codes(zygote: Zygote) -> None:
    codes = [0, 1, 2, 77, 125, 127, 128, 137, 143, 255]
    ids = {code: zygote.prepare(["/bin/sh", "-c", f"exit {code}"]) for code in codes}
    for task_id in ids.values():
        zygote.ask(task_id)
    for code, task_id in ids.items():
        record = zygote.exit(task_id)
        assert (record["state"], record["exit_code"], record["signal"]) == (State.FINISHED, code, None)
        assert record["started_ns"] <= record["ended_ns"]
        assert record["signalled_ns"] is None


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 14, 15, 34, 64])
def test_a_signal_from_elsewhere_ends_the_task(zygote: Zygote, number: int) -> None:
    record = zygote.run(["/bin/sh", "-c", f"kill -{number} $$"])
    # SIGKILL by another process is no brutal kill: levity did not send it.
    assert (record["state"], record["exit_code"]) == (State.FINISHED, 128 + number)
    assert record["signal"] in {"SIGRTMIN", "SIGRTMAX"} | {signal.Signals(n).name for n in range(1, 16)}
    assert record["signalled_ns"] is None


def test_sigterm_ends_a_task(zygote: Zygote) -> None:
    task_id = zygote.start(["sleep", "600"])
    zygote.signal(task_id)
    record = zygote.exit(task_id)
    assert (record["state"], record["exit_code"], record["signal"]) == (State.FINISHED, 143, "SIGTERM")
    assert record["started_ns"] <= record["signalled_ns"] <= record["ended_ns"]


def test_a_task_that_handles_sigterm_ends_with_its_own_code(zygote: Zygote) -> None:
    task_id = zygote.sh("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.02; done")
    eventually(lambda: (zygote.path(task_id) / "stdout.0000000000000000.log").read_bytes() == b"ready\n", "its trap")
    zygote.signal(task_id)
    record = zygote.exit(task_id)
    assert (record["state"], record["exit_code"], record["signal"]) == (State.FINISHED, 7, None)
    assert zygote.output(task_id)[0] == b"ready\nbye\n"


def stubborn(zygote: Zygote, **spec: object) -> str:
    """Start a task that ignores SIGTERM and return its id once it does."""
    task_id = zygote.sh(STUBBORN, **spec)
    eventually((zygote.path(task_id) / "stdout.0000000000000000.log").read_bytes, "its trap")
    return task_id


def test_a_task_that_ignores_sigterm_is_killed_after_its_grace(zygote: Zygote) -> None:
    task_id = stubborn(zygote, grace_s=0.4)
    asked = time.monotonic()
    zygote.signal(task_id)
    record = zygote.exit(task_id)
    assert 0.4 <= time.monotonic() - asked < 4
    assert (record["state"], record["exit_code"], record["signal"]) == (State.BRUTALLY_KILLED, 137, "SIGKILL")
    assert record["reason"] == "outlived the grace period of 0.4 s, ended by SIGKILL"


def test_the_default_grace_is_five_seconds(zygote: Zygote) -> None:
    task_id = stubborn(zygote)
    asked = time.monotonic()
    zygote.signal(task_id)
    assert zygote.exit(task_id)["state"] == State.BRUTALLY_KILLED
    assert 5.0 <= time.monotonic() - asked < 9


def test_the_grace_of_a_call_wins_and_a_later_call_can_only_shorten_it(zygote: Zygote) -> None:
    task_id = stubborn(zygote, grace_s=60)
    zygote.signal(task_id, 30)
    zygote.signal(task_id, 2)
    zygote.signal(task_id, 50)
    asked = time.monotonic()
    assert zygote.exit(task_id)["state"] == State.BRUTALLY_KILLED
    assert time.monotonic() - asked < 10


def test_the_engine_is_told_of_start_and_signal_and_both_are_on_disk_by_then(zygote: Zygote) -> None:
    task_id = zygote.prepare(["/bin/sh", "-c", STUBBORN], grace_s=0.3)
    zygote.ask(task_id)
    zygote.wait_for_hint(task_id)
    facts = zygote.record(task_id, "shim.json")
    assert facts is not None
    assert facts["pid"] == zygote.shim(task_id)
    assert os.getpgid(facts["task_pid"]) == facts["task_pid"]
    zygote.signal(task_id)
    zygote.wait_for_hint(task_id)
    facts = zygote.record(task_id, "shim.json")
    assert facts is not None
    assert facts["signalled_ns"] > facts["started_ns"]
    zygote.exit(task_id)


def test_a_signal_that_cannot_be_recorded_is_sent_and_recorded_later(zygote: Zygote) -> None:
    task_id = zygote.sh("trap 'echo asked' TERM; while :; do sleep 0.02; done", grace_s=30)
    zygote.wait_for_hint(task_id)
    obstacle = zygote.path(task_id) / "shim.json.tmp"
    obstacle.mkdir()
    zygote.signal(task_id)
    eventually(lambda: zygote.output(task_id)[0] == b"asked\n", "the signal")
    assert "signalled_ns" not in zygote.facts(task_id)
    obstacle.rmdir()
    zygote.wait_for_hint(task_id)
    assert "signalled_ns" in zygote.facts(task_id)
    zygote.signal(task_id, 0)
    assert zygote.exit(task_id)["state"] == State.BRUTALLY_KILLED


def test_a_stopped_task_is_woken_to_end(zygote: Zygote) -> None:
    task_id = zygote.sh("kill -STOP $$; exit 1")
    pid = zygote.facts(task_id)["task_pid"]
    eventually(lambda: _state(pid) == "T", "the task to stop itself")
    zygote.signal(task_id)
    record = zygote.exit(task_id)
    assert (record["state"], record["signal"]) == (State.FINISHED, "SIGTERM")


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_no_shim_listens_once_a_task_is_over(zygote: Zygote) -> None:
    record = zygote.run(["true"])
    with pytest.raises(OSError, match="No such device or address"):
        zygote.signal(record["id"])


def test_a_signal_at_the_moment_of_the_exit_has_one_outcome(zygote: Zygote) -> None:
    """Exit 0 and SIGTERM race: whatever wins, state and code agree with each other."""
    for delay_s in (0.0, 0.001, 0.002, 0.004, 0.008):
        task_id = zygote.sh(f"sleep {delay_s}; exit 0")
        try:
            zygote.signal(task_id)
        except OSError:
            pass  # It is over, and its shim gone.
        record = zygote.exit(task_id)
        assert record["state"] == State.FINISHED
        assert (record["exit_code"], record["signal"]) in {(0, None), (143, "SIGTERM")}


def test_a_shim_outlives_its_zygote_and_its_signals(zygote: Zygote) -> None:
    task_id = zygote.start(["sleep", "600"])
    shim = zygote.shim(task_id)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(shim, number)
        os.kill(zygote.process.pid, number)
    zygote.process.kill()
    zygote.process.wait()
    zygote.signal(task_id)
    eventually(lambda: zygote.record(task_id, "exit.json"), "the exit record")
    eventually(lambda: not alive(shim), "the shim to leave")
