"""Nothing of a task's tree outlives it, whatever it did to get away."""

import sys
import time

import pytest

from levity.states import State
from tests.support.deadline import eventually
from tests.support.tasks import alive, running_in
from tests.support.zygote import Zygote

# Leaves session and group behind, then its parent: it is adopted by the shim.
ESCAPED = "(setsid sh -c 'echo $$ > {path}.new; mv {path}.new {path}; {then}' >/dev/null 2>&1 &)"
STAY = "exec sleep 600"
IGNORE = 'trap "" TERM; while :; do sleep 0.02; done'


def script(zygote: Zygote, then: str, leader: str) -> str:
    path = zygote.directory / "child"
    return f"{ESCAPED.format(path=path, then=then)}; while [ ! -e {path} ]; do sleep 0.01; done; {leader}"


@pytest.mark.parametrize("then", [STAY, IGNORE], ids=["ends by SIGTERM", "ignores SIGTERM"])
def test_an_escaped_child_is_gone_after_a_signal(zygote: Zygote, then: str) -> None:
    task_id = zygote.sh(script(zygote, then, "exec sleep 600"), grace_s=0.3)
    child = running_in(zygote.directory, "child")
    zygote.signal(task_id)
    record = zygote.exit(task_id)
    assert (record["state"], record["signal"]) == (State.FINISHED, "SIGTERM")
    assert not alive(child)


def test_a_killed_task_takes_an_escaped_child_along(zygote: Zygote) -> None:
    task_id = zygote.sh("trap '' TERM; " + script(zygote, IGNORE, "while :; do sleep 0.02; done"), grace_s=0.3)
    child = running_in(zygote.directory, "child")
    zygote.signal(task_id)
    assert zygote.exit(task_id)["state"] == State.BRUTALLY_KILLED
    assert not alive(child)


def test_processes_that_a_leader_leaves_get_sigterm_at_once(zygote: Zygote) -> None:
    began = time.monotonic()
    record = zygote.run(["/bin/sh", "-c", script(zygote, STAY, "exit 4")], grace_s=60)
    assert (record["state"], record["exit_code"], record["signalled_ns"]) == (State.FINISHED, 4, None)
    assert not alive(running_in(zygote.directory, "child"))
    assert time.monotonic() - began < 30


def test_processes_that_a_leader_leaves_are_killed_after_the_grace(zygote: Zygote) -> None:
    record = zygote.run(["/bin/sh", "-c", script(zygote, IGNORE, "exit 5")], grace_s=0.4)
    # The leader ended by itself: what was killed afterwards does not change its state.
    assert (record["state"], record["exit_code"]) == (State.FINISHED, 5)
    assert not alive(running_in(zygote.directory, "child"))


def test_a_child_that_forks_itself_anew_all_the_time_is_caught(zygote: Zygote) -> None:
    """It never has the same pid for longer than a moment, and every generation leaves the session."""
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        # Bounded: when this test fails, the machine shall be itself again.
        "end = time.monotonic() + 15\n"
        "while time.monotonic() < end:\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "    os.setsid()\n"
    )
    task_id = zygote.sh(f"{sys.executable} -I -S -c '{code}' & exec sleep 600", grace_s=0.2)
    zygote.signal(task_id)
    assert zygote.exit(task_id)["signal"] == "SIGTERM"


def test_a_thousand_zombies_are_reaped(zygote: Zygote) -> None:
    code = (
        "import os\n"
        "for _ in range(1000):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "print('done', flush=True)\n"
        "while True: os.read(0, 1) or __import__('signal').pause()\n"
    )
    task_id = zygote.start([sys.executable, "-I", "-S", "-c", code])
    eventually(lambda: zygote.output(task_id)[0] == b"done\n", "a thousand orphans", 40)
    shim = zygote.shim(task_id)
    with open(f"/proc/{shim}/task/{shim}/children") as file:
        eventually(lambda: file.seek(0) == 0 and len(file.read().split()) == 1, "only the leader to be left")
    zygote.signal(task_id)
    assert zygote.exit(task_id)["signal"] == "SIGTERM"


def test_many_children_of_an_ended_leader_do_not_delay_its_end(zygote: Zygote) -> None:
    record = zygote.run(["/bin/sh", "-c", "for i in $(seq 50); do sleep 600 & done; exit 6"])
    assert (record["state"], record["exit_code"]) == (State.FINISHED, 6)


def test_a_task_that_signals_its_own_group_does_not_hit_its_shim(zygote: Zygote) -> None:
    record = zygote.run(["/bin/sh", "-c", "kill -KILL 0"])
    assert (record["state"], record["exit_code"]) == (State.FINISHED, 137)
