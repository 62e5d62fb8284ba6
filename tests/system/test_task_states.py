"""The six states, and what a signal does to a task and to its tree, against a real levityd."""

import itertools
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from levity import Client
from levity.errors import Conflict
from levity.states import State, may_move
from levity.task import TaskRecord
from tests.support.cli import levity
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import alive, client_of, ended, output, running_in, sh

# Says when it is ready to be signalled, then ignores SIGTERM.
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
# A daemon as in the books: two forks and a session of its own; its pid goes into a file.
DOUBLE_FORK = "(setsid sh -c 'echo $$ > %s; exec sleep 600' >/dev/null 2>&1 & ) ; "


@pytest.fixture
def client(shared_daemon: Daemon) -> Iterator[Client]:
    with client_of(shared_daemon.address) as one:
        yield one


def ready(client: Client, task_id: str) -> None:
    """Wait until a task has said that it is ready."""
    eventually(lambda: b"ready" in output(client, task_id)[0], f"a word from task {task_id}")


def seconds(record: TaskRecord) -> float:
    """Return the time from signal to end."""
    assert record.signalled_at is not None
    assert record.ended_at is not None
    times = [datetime.fromisoformat(text[:26] + "+00:00") for text in (record.signalled_at, record.ended_at)]
    return (times[1] - times[0]).total_seconds()


def states_seen(client: Client, task_id: str) -> list[State]:
    """Ask until the task is over and return the different states, in order."""
    seen: list[State] = []

    def look() -> bool:
        state = client.query(task_id).state
        if not seen or seen[-1] is not state:
            seen.append(state)
        return state.is_end

    eventually(look, f"the end of task {task_id}")
    return seen


# Ends of its own accord


def test_every_exit_code_is_told_as_it_was(client: Client) -> None:
    tasks = {code: sh(client, f"exit {code}") for code in (0, 1, 2, 7, 63, 126, 127, 128, 129, 137, 254, 255)}
    for code, task_id in tasks.items():
        record = ended(client, task_id)
        assert (record.state, record.exit_code, record.signal) == (State.FINISHED, code, None)


def test_a_signal_that_ended_a_task_is_told_as_128_and_its_number(client: Client) -> None:
    names = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT", "SIGKILL", "SIGSEGV", "SIGPIPE", "SIGTERM", "SIGUSR1", "SIGXCPU")
    tasks = {name: sh(client, f"ulimit -c 0; kill -{name[3:]} $$") for name in names}
    for name, task_id in tasks.items():
        record = ended(client, task_id)
        number = signal.Signals[name].value
        # Also SIGKILL: it was not levity that sent it.
        assert (record.state, record.exit_code, record.signal) == (State.FINISHED, 128 + number, name)


def test_the_last_signal_number_fits_into_an_exit_code(client: Client) -> None:
    record = ended(client, sh(client, "kill -64 $$"))
    assert (record.state, record.exit_code) == (State.FINISHED, 192)


def test_states_only_move_as_the_table_says(client: Client) -> None:
    for script in ("exit 3", "sleep 0.05"):
        seen = states_seen(client, sh(client, script))
        assert seen[-1] is State.FINISHED
        assert all(may_move(old, new) for old, new in itertools.pairwise(seen))


def test_query_prints_the_state_and_the_exit_code_of_a_finished_task(client: Client, shared_daemon: Daemon) -> None:
    running, over = sh(client, "exec sleep 600"), sh(client, "exit 9")
    ended(client, over)
    assert levity(shared_daemon, "query", running).stdout == b"Running\n"
    assert levity(shared_daemon, "query", over).stdout == b"Finished\n9\n"
    client.signal(running)
    assert ended(client, running).exit_code == 143


def test_a_task_that_no_shim_could_start_yet_is_not_started(daemon: Daemon) -> None:
    zygote, task_id = daemon.pid_of("zygote"), str(uuid.uuid4())
    daemon.kill("zygote", signal.SIGSTOP)

    def start() -> None:
        with client_of(daemon.address) as other:
            other.start(["/bin/true"], task_id=task_id)

    starter = threading.Thread(target=start)
    starter.start()
    with client_of(daemon.address) as client:
        try:
            eventually(lambda: [record for record in client.list() if record.id == task_id], "the task to be accepted")
            assert client.query(task_id).state is State.NOT_STARTED
        finally:
            os.kill(zygote, signal.SIGCONT)
            starter.join()
        assert ended(client, task_id).exit_code == 0


# Asked to quit


def test_a_task_that_does_not_care_about_sigterm_is_finished_by_it(client: Client) -> None:
    task_id = sh(client, "exec sleep 600")
    client.signal(task_id)
    record = ended(client, task_id)
    assert (record.state, record.exit_code, record.signal) == (State.FINISHED, 143, "SIGTERM")


def test_a_task_that_handles_sigterm_is_finished_with_its_own_code(client: Client) -> None:
    task_id = sh(client, "trap 'echo bye; exit 42' TERM; echo ready; while :; do sleep 0.02; done")
    ready(client, task_id)
    client.signal(task_id)
    record = ended(client, task_id)
    assert (record.state, record.exit_code, record.signal) == (State.FINISHED, 42, None)
    assert output(client, task_id)[0] == b"ready\nbye\n"


def test_a_task_that_ignores_sigterm_is_brutally_killed_after_5_seconds(client: Client, shared_daemon: Daemon) -> None:
    task_id = sh(client, STUBBORN)
    ready(client, task_id)
    before = time.monotonic()
    assert levity(shared_daemon, "signal", task_id).returncode == 0
    assert time.monotonic() - before < 4, "signal waits for the task"
    assert client.query(task_id).state is State.SIGNALLED
    record = ended(client, task_id)
    assert (record.state, record.exit_code, record.signal) == (State.BRUTALLY_KILLED, 137, "SIGKILL")
    assert 4.9 <= seconds(record) <= 9  # By the wall clock, and each time read a moment late.
    assert levity(shared_daemon, "query", task_id).stdout == b"BrutallyKilled\n"


def test_the_grace_can_be_given_with_the_start_and_with_the_signal(client: Client) -> None:
    by_start, by_signal = sh(client, STUBBORN, grace_s=0.3), sh(client, STUBBORN)
    for task_id in (by_start, by_signal):
        ready(client, task_id)
    client.signal(by_start)
    client.signal(by_signal, grace_s=0.3)
    for task_id in (by_start, by_signal):
        record = ended(client, task_id)
        assert (record.state, record.grace_s) == (State.BRUTALLY_KILLED, 0.3)
        assert 0.2 <= seconds(record) <= 4


def test_a_second_signal_may_shorten_the_grace_but_not_lengthen_it(client: Client) -> None:
    shorter, longer = sh(client, STUBBORN, grace_s=60), sh(client, STUBBORN, grace_s=0.3)
    for task_id in (shorter, longer):
        ready(client, task_id)
        client.signal(task_id)
    assert client.query(shorter).state is State.SIGNALLED
    client.signal(shorter, grace_s=0)
    client.signal(longer, grace_s=60)
    assert ended(client, shorter, 10).state is State.BRUTALLY_KILLED
    assert ended(client, longer, 10).state is State.BRUTALLY_KILLED


def test_a_stopped_task_can_be_signalled(client: Client) -> None:
    task_id = sh(client, "trap 'exit 4' TERM; echo ready; kill -STOP $$; while :; do sleep 0.02; done")
    ready(client, task_id)
    client.signal(task_id)
    record = ended(client, task_id)
    assert (record.state, record.exit_code) == (State.FINISHED, 4)


def test_signalling_an_ended_task_succeeds_and_changes_nothing(client: Client, shared_daemon: Daemon) -> None:
    task_id = sh(client, "exit 5")
    before = ended(client, task_id)
    assert client.signal(task_id).raw == before.raw
    done = levity(shared_daemon, "signal", task_id)
    assert (done.returncode, done.stderr) == (0, b"")
    assert client.query(task_id).raw == before.raw


@pytest.mark.race
def test_many_clients_that_signal_a_task_at_its_end_see_one_outcome(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = sh(client, "trap 'exit 6' TERM; echo ready; sleep 0.1 & wait; exit 6")
        ready(client, task_id)
        failures: list[BaseException] = []

        def ask() -> None:
            try:
                with client_of(shared_daemon.address) as other:
                    other.signal(task_id)
            except BaseException as error:  # noqa: BLE001 - told in the test's thread
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        record = ended(client, task_id)
        assert (record.state, record.exit_code) == (State.FINISHED, 6)


# The tree


def tree_of(client: Client, directory: Path, script: str, **options: object) -> tuple[str, int]:
    """Start a task with a double-forked child in another session; return its id and that child's pid."""
    task_id = sh(client, DOUBLE_FORK % (directory / "child") + script, **options)
    return task_id, running_in(directory, "child")


def test_children_that_left_the_session_are_gone_with_a_signalled_task(client: Client, tmp_path: Path) -> None:
    task_id, child = tree_of(client, tmp_path, "exec sleep 600")
    client.signal(task_id)
    assert ended(client, task_id).state is State.FINISHED
    assert not alive(child)


def test_children_that_left_the_session_are_gone_with_a_killed_task(client: Client, tmp_path: Path) -> None:
    task_id, child = tree_of(client, tmp_path, STUBBORN, grace_s=0.2)
    ready(client, task_id)
    client.signal(task_id)
    assert ended(client, task_id).state is State.BRUTALLY_KILLED
    assert not alive(child)


def test_the_rest_of_a_tree_goes_when_its_leader_exits(client: Client, tmp_path: Path) -> None:
    # Not before the child has said who it is: it is sent SIGTERM the moment the leader is gone.
    task_id, child = tree_of(client, tmp_path, f"while [ ! -s {tmp_path}/child ]; do sleep 0.02; done; exit 8")
    record = ended(client, task_id)
    assert (record.state, record.exit_code) == (State.FINISHED, 8)
    assert not alive(child)


def test_a_tree_that_ignores_sigterm_is_killed_and_its_leaders_code_stays(client: Client, tmp_path: Path) -> None:
    script = f"setsid sh -c \"trap '' TERM; echo \\$\\$ > {tmp_path}/child; while :; do sleep 0.05; done\" & "
    task_id = sh(client, script + f"while [ ! -s {tmp_path}/child ]; do sleep 0.02; done; exit 3", grace_s=0.3)
    child = running_in(tmp_path, "child")
    record = ended(client, task_id)
    assert (record.state, record.exit_code) == (State.FINISHED, 3)
    assert not alive(child)


def test_finished_means_that_the_log_is_complete(client: Client, tmp_path: Path) -> None:
    """What a child writes after its leader has exited belongs to the task, too."""
    up = tmp_path / "up"
    script = f"sh -c 'trap \"echo last; exit\" TERM; echo first; touch {up}; while :; do sleep 0.02; done' & "
    task_id = sh(client, script + f"while [ ! -e {up} ]; do sleep 0.02; done; exit 0")
    record = ended(client, task_id)
    assert (record.state, record.exit_code) == (State.FINISHED, 0)
    stdout, stderr = output(client, task_id)
    assert stdout == b"first\nlast\n"
    # The shell says there that its sleep was terminated.
    assert (record.stdout_bytes, record.stderr_bytes) == (11, len(stderr))


def test_no_zombie_is_left_of_a_task_with_many_children(client: Client, shared_daemon: Daemon) -> None:
    task_id = sh(client, "for i in 1 2 3 4 5 6 7 8 9 10; do (setsid true &) ; done; wait; sleep 0.2")
    assert ended(client, task_id).exit_code == 0
    eventually(lambda: f"shim {task_id}" not in shared_daemon.pids(), "the shim to leave")


# Once


@pytest.mark.race
def test_the_same_start_sent_by_many_runs_once(shared_daemon: Daemon, tmp_path: Path) -> None:
    task_id, witness = str(uuid.uuid4()), tmp_path / "runs"
    argv = ["/bin/sh", "-c", f"echo ran >> {witness}"]
    results: list[object] = []

    def start() -> None:
        with client_of(shared_daemon.address) as one:
            results.append(_outcome(lambda: one.start(argv, task_id=task_id)))

    threads = [threading.Thread(target=start) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [task_id] * 12
    with client_of(shared_daemon.address) as client:
        ended(client, task_id)
        assert client.start(argv, task_id=task_id) == task_id
    assert witness.read_text() == "ran\n"


def test_an_id_in_use_is_not_given_to_another_command(client: Client) -> None:
    task_id = sh(client, "exit 0")
    with pytest.raises(Conflict):
        client.start(["/bin/false"], task_id=task_id)
    assert ended(client, task_id).exit_code == 0


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - told in the test's thread
        return error
