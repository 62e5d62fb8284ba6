"""The record of a task as clients get it."""

from typing import Any

from levity.states import State
from levity.task import TaskRecord
from supervisor.engine.record import make_record

SPEC: dict[str, Any] = {
    "id": "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42",
    "argv": ["ls"],
    "cwd": None,
    "env": {},
    "grace_s": 5.0,
    "accepted_ns": 1_700_000_000_000_000_001,
}
NAMES = (
    "id state argv cwd env exit_code signal reason grace_s pid shim_pid accepted_at started_at signalled_at ended_at "
    "stdout_bytes stderr_bytes"
)


def test_a_task_that_is_not_started_has_every_name_and_no_facts() -> None:
    record = make_record(SPEC, State.NOT_STARTED, {})
    assert set(record) == set(NAMES.split())
    assert record["accepted_at"] == "2023-11-14T22:13:20.000000001Z"
    absent = ("exit_code", "signal", "pid", "shim_pid", "started_at", "signalled_at", "ended_at", "stdout_bytes")
    assert [record[name] for name in absent] == [None] * len(absent)


def test_facts_come_from_the_records_on_disk() -> None:
    facts = {"pid": 7, "task_pid": 8, "started_ns": 10**9, "ended_ns": 2 * 10**9, "exit_code": 3, "stdout_bytes": 0}
    record = make_record(SPEC, State.FINISHED, facts | {"grace_s": 1.5, "reason": "exited with code 3"})
    assert (record["pid"], record["shim_pid"], record["exit_code"], record["grace_s"]) == (8, 7, 3, 1.5)
    assert record["started_at"] == "1970-01-01T00:00:01.000000000Z"
    assert record["stdout_bytes"] == 0


def test_clients_understand_it() -> None:
    task = TaskRecord(make_record(SPEC, State.RUNNING, {"task_pid": 8}))
    assert (task.state, task.pid, task.reason) == (State.RUNNING, 8, "")
