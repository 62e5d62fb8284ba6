"""levityd told to stop: orderly, soon, tasks left running, and a line that says how to find them again."""

import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from levity.states import State
from tests.support.cli import levity
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import alive, client_of, ended, sh

# It waits four seconds for a child that is stuck.
WITHIN_S = 9.0


def stop(daemon: Daemon, *numbers: int) -> float:
    """Send signals to levityd at once and return how many seconds it took to end; it must exit with 0."""
    before = time.monotonic()
    for number in numbers[:-1]:
        os.kill(daemon.pid, number)
    assert daemon.stop(numbers[-1]) == 0
    return time.monotonic() - before


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGHUP,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,) * 5],
    ids=lambda numbers: "+".join(signal.Signals(number).name for number in numbers),
)
def test_a_signal_ends_levityd_and_no_task(daemon: Daemon, numbers: tuple[int, ...]) -> None:
    with client_of(daemon.address) as client:
        tasks = [sh(client, "exec sleep 600") for _ in range(3)]
        pids = [client.query(task_id).pid for task_id in tasks]
        assert stop(daemon, *numbers) < WITHIN_S
        assert all(alive(pid or 0) for pid in pids)
        # A zygote that was just started leaves when it has rehearsed.
        eventually(lambda: set(daemon.pids()) == {f"shim {task_id}" for task_id in tasks}, "all but shims to be gone")
        daemon.start()
        assert [client.query(task_id).state for task_id in tasks] == [State.RUNNING] * 3


def test_signals_until_the_very_end_change_nothing(daemon: Daemon) -> None:
    """Python undoes its handlers before the process is gone: a signal that comes then must not kill it."""
    pid = daemon.pid
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.0005):
            os.kill(pid, signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    finally:
        over.set()
        sender.join()
    assert daemon.stop(0) == 0


def test_levityd_says_how_many_tasks_it_leaves_and_how_to_find_them(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        tasks = [sh(client, "exec sleep 600") for _ in range(2)]
    daemon.stop()
    line = daemon.stderr_text().splitlines()[-1]
    assert "2 tasks left running" in line
    assert f"--state-dir {daemon.state_dir}" in line
    daemon.start()
    # What the line advises, word for word.
    command = line.partition(", then levity ")[2].split()
    listed = levity(None, *command)
    assert all(task_id.encode() in listed.stdout for task_id in tasks), listed


def test_the_line_counts_one_and_none(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "exec sleep 600")
        daemon.stop()
        assert "1 task left running" in daemon.stderr_text()
        daemon.start()
        client.signal(task_id)
        ended(client, task_id)
    daemon.stop()
    assert "no task is left running" in daemon.stderr_text().splitlines()[-1]


def test_levityd_says_a_line_each_and_no_traceback(daemon: Daemon) -> None:
    daemon.stop()
    lines = daemon.stderr_text().splitlines()
    assert len(lines) == 2, lines
    assert lines[0] == f"Listening on {daemon.address}"


def test_nothing_is_left_in_the_way(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    path = Path((daemon.address or "").removeprefix("unix:"))
    assert stat.S_ISSOCK(path.stat().st_mode)
    daemon.stop()
    assert not path.exists()
    # A zygote that was just started leaves when it has rehearsed.
    eventually(lambda: not daemon.pids() or None, "the end of all processes")


@pytest.mark.parametrize("role", ["engine", "front-end"])
def test_a_child_that_is_stuck_delays_the_end_by_seconds_only(daemon: Daemon, role: str) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "exec sleep 600")
        daemon.kill(role, signal.SIGSTOP)
        assert stop(daemon, signal.SIGTERM) < WITHIN_S
        daemon.start()
        assert client.query(task_id).state is State.RUNNING


@pytest.mark.race
def test_stopped_in_a_storm_of_starts_loses_nothing(daemon: Daemon, tmp_path: Path) -> None:
    witness, over = tmp_path / "runs", threading.Event()
    started: list[str] = []
    failures: list[BaseException] = []

    def start_some() -> None:
        try:
            with client_of(daemon.address) as client:
                while not over.is_set():
                    started.append(sh(client, f"echo $LEVITY_TASK_ID >> {witness}; exit 3"))
        except BaseException as error:  # noqa: BLE001 - told in the test's thread
            failures.append(error)

    threads = [threading.Thread(target=start_some) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            enough = len(started) + 10
            eventually(lambda: len(started) > enough, "some starts")  # noqa: B023 - called at once
            stop(daemon, signal.SIGTERM)
            daemon.start()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    with client_of(daemon.address) as client:
        assert {ended(client, task_id).exit_code for task_id in started} == {3}
    assert sorted(witness.read_text().split()) == sorted(started)


def test_the_group_signalled_as_by_a_terminal_ends_levityd_in_order(daemon: Daemon) -> None:
    """Ctrl-C reaches arbiter, front-end, engine and zygote alike; tasks and shims have sessions of their own."""
    with client_of(daemon.address) as client:
        task_id = sh(client, "exec sleep 600")
        for pids in list(daemon.pids().items()):
            if not pids[0].startswith("shim"):
                for pid in pids[1]:
                    # One that the first signals have ended already need not be there any more.
                    with suppress(psutil.NoSuchProcess):
                        psutil.Process(pid).send_signal(signal.SIGINT)
        eventually(lambda: set(daemon.pids()) == {f"shim {task_id}"}, "levityd's end", WITHIN_S)
        assert "1 task left running" in daemon.stderr_text()
