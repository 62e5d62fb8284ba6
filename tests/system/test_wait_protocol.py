"""task.wait and task.stdin as the engine answers them: at the end, when the time is over, over the engine's death."""

import os
import stat
import threading
import time
import uuid
from typing import Any

import pytest

from levity import Client
from levity.errors import AmbiguousTask, CommandNotFound, Conflict, InvalidRequest, UnknownMethod, UnknownTask
from levity.states import State
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import client_of, ended, sh

NOBODY = "00000000-0000-4000-8000-000000000000"


def wait(client: Client, *ids: str, timeout_s: float | None = 20, **more: object) -> dict[str, Any]:
    return client.call("task.wait", {"ids": list(ids), "timeout_s": timeout_s, **more})


def codes(answer: dict[str, Any]) -> list[int | None]:
    return [brief["exit_code"] for brief in answer["tasks"]]


def test_a_client_is_told_when_all_are_over_and_not_before(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        over = sh(client, "exit 1")
        ended(client, over)
        before = time.monotonic()
        slow, quick = sh(client, "sleep 0.6; exit 2"), sh(client, "sleep 0.1; exit 3")
        answer = wait(client, slow[:13], over, quick, slow)
        assert time.monotonic() - before > 0.55
        assert answer["done"] is True
        assert [brief["id"] for brief in answer["tasks"]] == [slow, over, quick, slow]
        assert codes(answer) == [2, 1, 3, 2]
        brief = answer["tasks"][0]
        assert brief == {
            "id": slow,
            "state": "Finished",
            "exit_code": 2,
            "signal": None,
            "reason": "exited with code 2",
        }


def test_the_first_is_enough(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        slow, quick = sh(client, "exec sleep 600"), sh(client, "sleep 0.1; exit 3")
        answer = wait(client, slow, quick, any=True)
        assert answer["done"] is True
        assert codes(answer) == [None, 3]
        assert answer["tasks"][0]["state"] == "Running"
        assert wait(client, slow, quick, any=True) == answer


def test_the_time_may_be_over(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = sh(client, "exec sleep 600")
        for timeout_s in (0, 0.1):
            answer = wait(client, task_id, timeout_s=timeout_s)
            assert answer["done"] is False
            assert [brief["state"] for brief in answer["tasks"]] == ["Running"]


def test_waiting_for_an_unknown_task(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        first, second = (f"77777777-0000-4000-8000-00000000000{number}" for number in "01")
        for task_id in (first, second):
            sh(client, "exec sleep 600", task_id=task_id)
        with pytest.raises(UnknownTask):
            wait(client, first, NOBODY)
        with pytest.raises(AmbiguousTask):
            wait(client, "7777", first)
        for ids in ([], [7], "x", None):
            with pytest.raises(InvalidRequest):
                client.call("task.wait", {"ids": ids, "timeout_s": 1})


@pytest.mark.race
def test_an_end_is_not_missed_while_the_engine_is_killed(daemon: Daemon) -> None:
    with client_of(daemon.address) as client, client_of(daemon.address) as killer:
        tasks = [sh(client, f"sleep 0.{number}; exit {number}") for number in range(1, 9)]
        answers: list[dict[str, Any]] = []
        waiter = threading.Thread(target=lambda: answers.append(wait(client, *tasks)))
        waiter.start()
        for _ in range(3):
            daemon.kill("engine")
            killer.query(tasks[0])
        waiter.join(20)
        assert codes(answers[0]) == list(range(1, 9))


def test_a_task_that_is_lost_is_over(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "exec sleep 600")
        daemon.kill(f"shim {task_id}")
        (brief,) = wait(client, task_id)["tasks"]
        assert (brief["state"], brief["exit_code"]) == (State.INTERNAL_SERVER_ERROR, None)
        assert "monitor lost" in brief["reason"]


def test_a_command_that_cannot_be_executed_is_no_end(daemon: Daemon) -> None:
    """Its start is waited for while there is no zygote to make it."""
    task_id = str(uuid.uuid4())
    failures: list[BaseException] = []

    def start() -> None:
        with client_of(daemon.address) as client, pytest.raises(CommandNotFound):
            client.start(["/no/such/command"], task_id=task_id)

    def wait_for_it() -> None:
        with client_of(daemon.address) as client:
            try:
                wait(client, task_id)
            except CommandNotFound as error:
                failures.append(error)

    zygote = daemon.pid_of("zygote")
    os.kill(zygote, 19)  # SIGSTOP
    threads = [threading.Thread(target=start), threading.Thread(target=wait_for_it)]
    try:
        threads[0].start()
        with client_of(daemon.address) as client:
            eventually(
                lambda: [record.state for record in client.list()] == [State.NOT_STARTED], "the task to be accepted"
            )
            threads[1].start()
            eventually(lambda: not wait(client, task_id, timeout_s=0.1)["done"], "a wait")
    finally:
        os.kill(zygote, 18)  # SIGCONT
        for thread in threads:
            thread.join(20)
    assert len(failures) == 1


# Input


def test_a_task_that_is_to_be_fed_has_a_fifo_and_is_the_same_only_with_it(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        params: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "argv": ["sleep", "600"],
            "cwd": None,
            "env": {},
            "stdin": True,
        }
        record = client.call("task.start", params)
        assert (record["stdin"], record["merged"]) == (True, False)
        assert stat.S_ISFIFO(os.lstat(daemon.state_dir / "tasks" / record["id"] / "stdin").st_mode)
        assert client.call("task.start", params)["pid"] == record["pid"]
        for change in ({"stdin": False}, {"merged": True}):
            with pytest.raises(Conflict):
                client.call("task.start", params | change)
        # How much of its output is kept is no part of what the task is.
        assert client.call("task.start", params | {"log_cap": 0})["log_cap"] == record["log_cap"]


def test_clients_cannot_use_methods_between_front_end_and_engine(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client, pytest.raises(UnknownMethod):
        client.call("task.unwait", {"token": "0"})
