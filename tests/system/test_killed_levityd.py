"""SIGKILL the arbiter, or all of levityd at once: a new levityd on the same state directory takes everything over."""

import hashlib
import os
import signal
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from levity.states import State
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import alive, client_of, ended, output, sh

# Written in pieces, so that it takes a while: numbered lines.
FLOOD = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; exit 9"
FLOOD_BYTES = b"".join(b"line %d\n" % number for number in range(1, 20001))


def kill_arbiter(daemon: Daemon) -> None:
    """Kill the arbiter alone and wait until its children have followed it."""
    daemon.kill("arbiter")
    roles = ("arbiter", "front-end", "engine", "zygote")
    eventually(lambda: not set(daemon.pids()) & set(roles), "the end of the arbiter's children", 5)


def kill_everything(daemon: Daemon) -> None:
    daemon.kill_all()


KILLS = pytest.mark.parametrize("kill", [kill_arbiter, kill_everything])


@KILLS
def test_running_tasks_go_on_and_are_found_again(daemon: Daemon, kill: Callable[[Daemon], None]) -> None:
    with client_of(daemon.address) as client:
        tasks = [sh(client, "exec sleep 600") for _ in range(5)]
        before = {task_id: client.query(task_id).raw for task_id in tasks}
        kill(daemon)
        assert all(alive(record["pid"]) and alive(record["shim_pid"]) for record in before.values())
        daemon.start()
        assert {task_id: client.query(task_id).raw for task_id in tasks} == before
        for task_id in tasks:
            client.signal(task_id)
            assert ended(client, task_id).signal == "SIGTERM"


@KILLS
def test_what_ended_and_what_was_written_meanwhile_is_exact(
    daemon: Daemon, kill: Callable[[Daemon], None], tmp_path: Path
) -> None:
    with client_of(daemon.address) as client:
        wait = f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; "
        quiet, loud = sh(client, f"{wait} echo late; echo bad >&2; exit 7"), sh(client, wait + FLOOD)
        shims = [client.query(task_id).shim_pid for task_id in (quiet, loud)]
        kill(daemon)
        (tmp_path / "go").touch()
        eventually(lambda: not any(alive(shim or 0) for shim in shims), "the ends of both tasks")
        daemon.start()
        assert client.query(quiet).exit_code == 7
        assert output(client, quiet) == (b"late\n", b"bad\n")
        assert client.query(loud).exit_code == 9
        assert output(client, loud)[0] == FLOOD_BYTES


def test_a_flood_across_the_kill_loses_and_doubles_no_byte(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, FLOOD)
        eventually(lambda: output(client, task_id)[0], "the first bytes")
        daemon.kill_all()
        daemon.start()
        assert ended(client, task_id).exit_code == 9
        assert hashlib.sha256(output(client, task_id)[0]).digest() == hashlib.sha256(FLOOD_BYTES).digest()


def test_the_plain_files_can_be_read_while_levityd_is_down(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "echo out; echo err >&2")
        ended(client, task_id)
    daemon.kill_all()
    directory = daemon.state_dir / "tasks" / task_id
    assert b"".join(path.read_bytes() for path in sorted(directory.glob("stdout.*.log"))) == b"out\n"
    assert b"".join(path.read_bytes() for path in sorted(directory.glob("stderr.*.log"))) == b"err\n"
    assert (directory / "exit.json").exists()


@pytest.mark.race
@pytest.mark.parametrize(
    "order", [("arbiter", "engine", "front-end"), ("front-end", "engine", "arbiter")], ids=" ".join
)
def test_killed_one_after_the_other_in_any_order(daemon: Daemon, order: tuple[str, ...]) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "sleep 0.3; exit 5")
        pids = [daemon.pid_of(role) for role in order]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # It went with the arbiter.
        daemon.kill_all()
        daemon.start()
        assert ended(client, task_id).exit_code == 5


@pytest.mark.race
def test_a_client_that_waits_while_all_is_killed_is_answered(daemon: Daemon) -> None:
    """A client that had a connection asks again until the next levityd is there; its start runs once."""
    results: dict[str, object] = {}
    fresh, witness = str(uuid.uuid4()), daemon.state_dir.parent / "runs"
    with client_of(daemon.address) as client:
        known = sh(client, "echo here; exec sleep 600")
        eventually(lambda: output(client, known)[0], "the task's output")
    down = threading.Barrier(5)

    def ask(name: str, question: Callable[..., object]) -> None:
        with client_of(daemon.address) as one:
            one.info()
            down.wait(10)
            down.wait(10)
            try:
                results[name] = question(one)
            except Exception as error:  # noqa: BLE001 - told in the test's thread
                results[name] = error

    questions: dict[str, Callable[..., object]] = {
        "start": lambda one: one.start(["/bin/sh", "-c", f"echo ran >> {witness}"], task_id=fresh),
        "query": lambda one: one.query(known).state,
        "signal": lambda one: one.signal(known).id,
        "list": lambda one: known in {record.id for record in one.list(all=True)},
    }
    threads = [threading.Thread(target=ask, args=pair) for pair in questions.items()]
    for thread in threads:
        thread.start()
    down.wait(10)
    daemon.kill_all()
    down.wait(10)
    daemon.start()
    for thread in threads:
        thread.join()
    state = results.pop("query")
    assert results == {"start": fresh, "signal": known, "list": True}
    assert state in set(State)
    with client_of(daemon.address) as client:
        assert ended(client, fresh).exit_code == 0
        assert ended(client, known).signal == "SIGTERM"
    assert witness.read_text() == "ran\n"


def test_ended_tasks_answer_as_before(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        tasks = [sh(client, f"echo {code}; exit {code}") for code in range(10)]
        before = {task_id: ended(client, task_id).raw for task_id in tasks}
        daemon.kill_all()
        daemon.start()
        assert {task_id: client.query(task_id).raw for task_id in tasks} == before
        assert [output(client, task_id)[0] for task_id in tasks] == [b"%d\n" % code for code in range(10)]
