"""Waiting for the end of tasks: told at once, whatever is killed meanwhile."""

import socket
import threading
import time

import psutil
import pytest

from levity import State
from levity.errors import UnknownTask
from levity.operations.wait import WaitTimeout
from levity.protocol.messages import request_frame
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import client_of, sh


@pytest.mark.race
def test_all_and_any(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        quick, slow = sh(client, "exit 3"), sh(client, "exec sleep 600")
        (first, second) = client.wait([slow, quick], any=True)
        assert (first.state, second.state, second.exit_code) == (State.RUNNING, State.FINISHED, 3)
        with pytest.raises(WaitTimeout) as caught:
            client.wait([quick, slow], timeout=0.2)
        assert [record.state for record in caught.value.records] == [State.FINISHED, State.RUNNING]
        client.signal(slow)
        records = client.wait([quick, slow])
        assert [record.exit_code for record in records] == [3, 143]
        # What is over already is told at once, by a beginning of its id as well.
        assert client.wait(quick[:13])[0].exit_code == 3


def test_a_client_that_waits_is_told_at_once(shared_daemon: Daemon) -> None:
    """Not by asking now and then: twenty ends in a row take no longer than the tasks."""
    with client_of(shared_daemon.address) as client:
        began = time.monotonic()
        for number in range(20):
            assert client.wait(sh(client, f"exit {number}"))[0].exit_code == number
        assert time.monotonic() - began < 10


def test_an_id_of_no_task(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client, pytest.raises(UnknownTask):
        client.wait(["3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42"])


@pytest.mark.parametrize("role", ["engine", "front-end", "all"])
def test_waiting_across_sigkill(daemon: Daemon, role: str) -> None:
    with client_of(daemon.address) as client, client_of(daemon.address) as other:
        task_id = sh(client, "exec sleep 600")
        found: list[int | None] = []
        thread = threading.Thread(target=lambda: found.append(other.wait(task_id)[0].exit_code))
        thread.start()
        for _ in range(3):
            daemon.kill_and_revive(role)
            assert client.query(task_id).state is State.RUNNING
        assert thread.is_alive()
        client.signal(task_id)
        thread.join(20)
        assert found == [143]


def test_a_client_that_waits_for_long_is_not_given_up(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client, client_of(shared_daemon.address, 2) as impatient:
        assert impatient.wait(sh(client, "sleep 4; exit 4"))[0].exit_code == 4


@pytest.mark.race
def test_many_wait_for_one(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = sh(client, "exec sleep 600")
        found: list[int | None] = []

        def wait() -> None:
            with client_of(shared_daemon.address) as own:
                found.append(own.wait([task_id])[0].exit_code)

        threads = [threading.Thread(target=wait) for _ in range(30)]
        for thread in threads:
            thread.start()
        client.signal(task_id)
        for thread in threads:
            thread.join(20)
        assert found == [143] * 30
        eventually(lambda: client.info()["live"] == 0, "the end")


def test_the_time_is_kept_though_the_engine_dies(daemon: Daemon) -> None:
    with client_of(daemon.address) as client, client_of(daemon.address) as other:
        task_id = sh(client, "exec sleep 600")
        took: list[float] = []

        def wait() -> None:
            began = time.monotonic()
            with pytest.raises(WaitTimeout):
                other.wait(task_id, timeout=3)
            took.append(time.monotonic() - began)

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(2)  # Most of the time.
        daemon.kill("engine")
        thread.join(20)
        assert 3 <= took[0] < 10


def test_a_client_that_leaves_while_waiting_leaves_nothing_in_the_engine(daemon: Daemon) -> None:
    """A thousand ids each, some hundred times: it would be seen in its memory."""
    with client_of(daemon.address) as client:
        ids = [sh(client, "exec sleep 600") for _ in range(20)] * 50
        engine = psutil.Process(daemon.pid_of("engine"))
        leave(daemon, ids, 20)
        before = engine.memory_info().rss
        leave(daemon, ids, 100)
        assert engine.memory_info().rss - before < 10 * 2**20
        for task_id in ids[:20]:
            client.signal(task_id)


def leave(daemon: Daemon, ids: list[str], count: int) -> None:
    """Ask for the end of tasks, so many times, and leave before it."""
    assert daemon.address is not None
    for _ in range(count):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(daemon.address.removeprefix("unix:"))
            sock.sendall(request_frame(1, "task.wait", {"ids": ids, "heartbeat_s": 0.05}))
            while b"heartbeat" not in sock.recv(65536):
                pass
