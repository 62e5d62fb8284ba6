"""The record of a task as clients get it."""

from typing import Any

from levity.states import State
from levity.task import TaskRecord
from supervisor.engine.tasks.record import make_brief, make_record
from supervisor.spool.layout import DISK_ERROR_BYTE, NO_SPACE_BYTE

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
    "stdout_bytes stderr_bytes waiting stdin merged log_cap owner user"
)
BRIEF = {"id", "state", "exit_code", "signal", "reason"}


def test_a_task_that_is_not_started_has_every_name_and_no_facts() -> None:
    record = make_record(SPEC, State.NOT_STARTED, {})
    assert set(record) == set(NAMES.split())
    assert record["accepted_at"] == "2023-11-14T22:13:20.000000001Z"
    absent = (
        "waiting",
        "exit_code",
        "signal",
        "pid",
        "shim_pid",
        "started_at",
        "signalled_at",
        "ended_at",
        "stdout_bytes",
    )
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


def test_a_spec_of_an_older_levity_means_what_it_meant() -> None:
    record = make_record(SPEC, State.RUNNING, {})
    assert (record["stdin"], record["merged"], record["log_cap"]) == (False, False, 0)
    record = make_record(SPEC | {"stdin": True, "merged": True, "log_cap": 2**20}, State.RUNNING, {})
    assert (record["stdin"], record["merged"], record["log_cap"]) == (True, True, 2**20)


def test_why_a_task_waits_is_said_in_a_line_of_its_own_for_each_cause() -> None:
    waiting = [make_record(SPEC, State.RUNNING, {}, blocked)["waiting"] for blocked in (NO_SPACE_BYTE, DISK_ERROR_BYTE)]
    assert "no space" in waiting[0]
    assert "disk" in waiting[1]
    assert all("goes on when" in words and "\n" not in words for words in waiting)


def test_a_brief_is_a_part_of_the_record_and_can_be_made_of_it() -> None:
    record = make_record(SPEC, State.FINISHED, {"exit_code": 143, "signal": "SIGTERM", "reason": "signalled"})
    brief = make_brief(record["id"], record["state"], record)
    assert brief == {name: record[name] for name in BRIEF}
