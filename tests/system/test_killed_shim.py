"""SIGKILL a task's shim: its whole tree dies, the state is InternalServerError, no exit code is made up."""

from collections.abc import Callable
from pathlib import Path

import pytest

from levity import Client
from levity.states import State
from levity.task import TaskRecord
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import alive, client_of, ended, output, running_in, sh

# A child in the group, one in a session of its own, and a double-forked one; each writes its pid.
FAMILY = (
    "sh -c 'echo $$ > {0}/near; exec sleep 600' & "
    "setsid sh -c 'echo $$ > {0}/far; exec sleep 600' & "
    "(setsid sh -c 'echo $$ > {0}/gone; exec sleep 600' & ) ; "
    "echo so far; echo and this >&2; {1}"
)


def start_family(client: Client, directory: Path, rest: str = "exec sleep 600") -> tuple[str, list[int]]:
    """Start a task with three children; return its id and the pids of its whole tree."""
    task_id = sh(client, FAMILY.format(directory, rest))
    children = [running_in(directory, name) for name in ("near", "far", "gone")]
    eventually(lambda: output(client, task_id) == (b"so far\n", b"and this\n"), "the task's output")
    leader = client.query(task_id).pid
    assert leader is not None
    return task_id, [leader, *children]


def check_lost(client: Client, task_id: str, tree: list[int]) -> TaskRecord:
    record = ended(client, task_id)
    assert record.state is State.INTERNAL_SERVER_ERROR
    assert "monitor lost" in record.reason
    assert (record.exit_code, record.signal) == (None, None)
    assert [pid for pid in tree if alive(pid)] == []
    assert output(client, task_id) == (b"so far\n", b"and this\n")
    assert (record.stdout_bytes, record.stderr_bytes) == (7, 9)
    return record


@pytest.mark.race
def test_the_tree_dies_and_the_output_is_kept(daemon: Daemon, tmp_path: Path) -> None:
    with client_of(daemon.address) as client:
        task_id, tree = start_family(client, tmp_path)
        bystander = sh(client, "exec sleep 600")
        daemon.kill(f"shim {task_id}")
        record = check_lost(client, task_id, tree)
        assert client.query(bystander).state is State.RUNNING
        assert client.signal(task_id).raw == record.raw
        daemon.kill_all()
        daemon.start()
        assert client.query(task_id).raw == record.raw


def test_a_child_that_ignores_signals_and_has_no_mark_dies_in_its_session(daemon: Daemon, tmp_path: Path) -> None:
    bare_child = f"trap '' TERM HUP; echo \\$\\$ > {tmp_path}/bare; while :; do sleep 0.05; done"
    script = f'env -i sh -c "{bare_child}" & exec sleep 600'
    with client_of(daemon.address) as client:
        task_id = sh(client, script)
        bare = running_in(tmp_path, "bare")
        daemon.kill(f"shim {task_id}")
        assert ended(client, task_id).state is State.INTERNAL_SERVER_ERROR
        assert not alive(bare)


def test_a_shim_killed_during_the_grace(daemon: Daemon, tmp_path: Path) -> None:
    with client_of(daemon.address) as client:
        rest = f"trap '' TERM; echo $$ > {tmp_path}/deaf; while :; do sleep 0.05; done"
        task_id, tree = start_family(client, tmp_path, rest)
        running_in(tmp_path, "deaf")
        client.signal(task_id, grace_s=60)
        daemon.kill(f"shim {task_id}")
        record = ended(client, task_id)
        assert (record.state, record.exit_code) == (State.INTERNAL_SERVER_ERROR, None)
        assert record.signalled_at is not None
        assert not any(alive(pid) for pid in tree)


def kill_before(daemon: Daemon, task_id: str) -> None:
    daemon.kill_all()
    daemon.kill(f"shim {task_id}")


def kill_after(daemon: Daemon, task_id: str) -> None:
    daemon.kill(f"shim {task_id}")
    daemon.kill_all()


def kill_with_engine(daemon: Daemon, task_id: str) -> None:
    daemon.kill("engine")
    daemon.kill(f"shim {task_id}")
    daemon.kill_all()


@pytest.mark.parametrize("kill", [kill_before, kill_after, kill_with_engine])
def test_shim_and_levityd_killed_both(daemon: Daemon, tmp_path: Path, kill: Callable[[Daemon, str], None]) -> None:
    with client_of(daemon.address) as client:
        task_id, tree = start_family(client, tmp_path)
        kill(daemon, task_id)
        daemon.start()
        check_lost(client, task_id, tree)


def test_a_shim_is_not_killed_by_its_task_signalling_its_own_group(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        record = ended(client, sh(client, "trap '' USR1; kill -USR1 0; trap - TERM; kill -TERM 0"))
        assert (record.state, record.exit_code) == (State.FINISHED, 143)
