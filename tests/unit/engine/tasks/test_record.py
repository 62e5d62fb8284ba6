"""The record of a task as clients get it."""

from levity.states import State
from levity.task import TaskRecord
from supervisor.engine.tasks.phase import Phase
from supervisor.engine.tasks.record import BRIEF, make_brief, make_record
from supervisor.spool.layout import DISK_ERROR_BYTE, NO_SPACE_BYTE
from tests.support.records import an_end, shim_record, spec

SPEC = spec(accepted_ns=1_700_000_000_000_000_001)
NAMES = (
    "id state phase argv cwd env exit_code signal reason grace_s pid shim_pid accepted_at started_at signalled_at "
    "ended_at stdout_bytes stderr_bytes waiting stdin merged log_cap owner user"
)


def test_a_task_that_is_not_started_has_every_name_and_no_facts() -> None:
    record = make_record(SPEC, Phase.SPAWNING, None)
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
    ran = {"pid": 7, "task_pid": 8, "started_ns": 10**9, "grace_s": 1.5}
    end = an_end(exit_code=3, ended_ns=2 * 10**9, stdout_bytes=0, reason="exited with code 3", **ran)
    record = make_record(SPEC, Phase.FINISHED, end)
    assert (record["pid"], record["shim_pid"], record["exit_code"], record["grace_s"]) == (8, 7, 3, 1.5)
    assert record["started_at"] == "1970-01-01T00:00:01.000000000Z"
    assert record["stdout_bytes"] == 0


def test_clients_understand_it() -> None:
    task = TaskRecord(make_record(SPEC, Phase.RUNNING, shim_record(task_pid=8)))
    assert (task.state, task.pid, task.reason) == (State.RUNNING, 8, "")


def test_a_spec_of_an_older_levity_means_what_it_meant() -> None:
    record = make_record(SPEC, Phase.RUNNING, None)
    assert (record["stdin"], record["merged"], record["log_cap"]) == (False, False, 0)
    record = make_record(spec(stdin=True, merged=True, log_cap=2**20), Phase.RUNNING, None)
    assert (record["stdin"], record["merged"], record["log_cap"]) == (True, True, 2**20)


def test_why_a_task_waits_is_said_in_a_line_of_its_own_for_each_cause() -> None:
    waiting = [
        make_record(SPEC, Phase.RUNNING, None, blocked)["waiting"] for blocked in (NO_SPACE_BYTE, DISK_ERROR_BYTE)
    ]
    assert "no space" in waiting[0]
    assert "disk" in waiting[1]
    assert all("goes on when" in words and "\n" not in words for words in waiting)


def test_a_brief_is_a_part_of_the_record() -> None:
    end = an_end(exit_code=143, signal="SIGTERM", reason="signalled")
    record = make_record(SPEC, Phase.FINISHED, end)
    assert make_brief(SPEC.id, State.FINISHED, end) == {name: record[name] for name in BRIEF}
