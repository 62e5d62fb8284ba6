"""What is killed, lost or asked twice, and what must hold nevertheless."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from supervisor.spool.layout import CONTROL, EXIT, LOCK, SHIM, SPEC, TASKS
from supervisor.spool.start_failure import FORK, StartFailure
from tests.support.deadline import eventually
from tests.support.tasks import alive
from tests.support.zygote import Zygote


def test_a_task_dies_with_its_shim(zygote: Zygote) -> None:
    task_id = zygote.start(["sleep", "600"])
    pid = zygote.facts(task_id)["task_pid"]
    zygote.kill_shim(task_id)
    eventually(lambda: not alive(pid), "the leader to die")
    assert zygote.record(task_id, EXIT) is None
    assert zygote.shim(task_id) == 0


def test_a_second_shim_lets_a_running_task_alone(zygote: Zygote) -> None:
    task_id = zygote.sh("echo once; exec sleep 600")
    facts = zygote.facts(task_id)
    for _ in range(3):
        zygote.ask(task_id)
        assert zygote.status(task_id) == 0
    assert zygote.facts(task_id) == facts
    assert alive(facts["task_pid"])
    assert zygote.shim(task_id) == facts["pid"]


def test_a_task_that_is_over_is_not_run_again(zygote: Zygote) -> None:
    record = zygote.run(["/bin/sh", "-c", "echo once"])
    zygote.ask(record["id"])
    assert zygote.status(record["id"]) == 0
    assert zygote.output(record["id"])[0] == b"once\n"
    assert zygote.record(record["id"], EXIT) == {name: value for name, value in record.items() if name != "id"}


def test_a_task_whose_shim_was_killed_is_not_run_again(zygote: Zygote) -> None:
    task_id = zygote.start(["sleep", "600"])
    zygote.kill_shim(task_id)
    facts = zygote.record(task_id, SHIM)
    zygote.ask(task_id)
    assert zygote.status(task_id) == 0
    assert zygote.record(task_id, SHIM) == facts
    assert zygote.shim(task_id) == 0


def test_shims_asked_for_at_once_run_the_task_once(zygote: Zygote) -> None:
    task_id = zygote.prepare(["/bin/sh", "-c", "echo once"])
    for _ in range(8):
        zygote.ask(task_id)
    assert [zygote.status(task_id) for _ in range(8)] == [0] * 8
    assert zygote.output(task_id)[0] == b"once\n"


def test_leftovers_of_a_shim_killed_before_its_start_do_not_hinder_the_next(zygote: Zygote) -> None:
    task_id = zygote.prepare(["/bin/sh", "-c", "exit 3"])
    path = zygote.path(task_id)
    (path / LOCK).touch()
    os.mkfifo(path / CONTROL)
    (path / f"{SHIM}.tmp").write_text('{"ver')
    zygote.ask(task_id)
    assert zygote.exit(task_id)["exit_code"] == 3


def test_without_an_engine_nothing_waits_for_it(tmp_path: Path) -> None:
    zygote = Zygote(tmp_path, listens=False)
    try:
        assert zygote.run(["/bin/sh", "-c", "exit 5"])["exit_code"] == 5
    finally:
        zygote.close()


def test_a_hint_that_does_not_fit_is_sent_again(zygote: Zygote) -> None:
    """The engine's queue is full while 40 tasks start; afterwards each of them has been heard of."""
    ids = {zygote.start(["sleep", "600"]) for _ in range(40)}
    heard: set[str] = set()

    def all_heard() -> bool:
        try:
            while True:
                heard.add(zygote.hints.recv(64).decode())
        except BlockingIOError:
            return ids <= heard

    eventually(all_heard, "a hint of every task")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=["killed", "crashed"])
def test_a_zygote_that_dies_takes_nothing_along(zygote: Zygote, number: int) -> None:
    task_id = zygote.sh("while [ ! -e go ]; do sleep 0.01; done; echo out; exit 6", cwd=str(zygote.directory))
    zygote.process.send_signal(number)
    zygote.process.wait()
    (zygote.directory / "go").touch()
    eventually(lambda: zygote.record(task_id, EXIT), "the exit record")
    record = zygote.record(task_id, EXIT)
    assert record is not None
    assert record["exit_code"] == 6
    assert zygote.output(task_id)[0] == b"out\n"


def test_a_zygote_leaves_when_the_engine_does(tmp_path: Path) -> None:
    zygote = Zygote(tmp_path)
    zygote.close()
    assert zygote.process.returncode == 0


def test_shims_have_no_descriptor_of_the_zygote(zygote: Zygote) -> None:
    """One that held the engine's socket open would keep a dead engine's place.

    Two sockets are not of that kind: one sends hints, the other why a task did not run.
    """
    first = zygote.start(["sleep", "600"])
    second = zygote.start(["sleep", "600"])

    def descriptors(pid: int) -> list[str]:
        names = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
        return sorted(name.partition(":")[0].replace(first, "ID").replace(second, "ID") for name in names)

    here = f"{zygote.directory}/tasks/ID"
    expected = ["/dev/null"] * 3 + [here, f"{here}/control", f"{here}/lock"] + ["pipe"] * 4 + ["socket"] * 2
    assert descriptors(zygote.shim(first)) == sorted(expected)
    assert descriptors(zygote.shim(second)) == sorted(expected)


def test_a_zygote_that_cannot_fork_says_so(tmp_path: Path) -> None:
    """The next start works once there are processes to be had again."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    user = 54397  # No other test has processes of this user.
    # All imports first: an ordinary user may not be allowed to read this checkout.
    prelude = (
        f"import os, resource, supervisor.shim.zygote; os.setgid({user}); os.setuid({user}); "
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, 100))"
    )
    (tmp_path / TASKS).mkdir()
    for path in (tmp_path / TASKS, tmp_path):
        os.chown(path, user, user)
    for parent in tmp_path.parents[:2]:  # pytest's own, which only this user may enter.
        parent.chmod(0o711)
    zygote = Zygote(tmp_path, prelude=prelude, env={"HOME": "/"})
    try:
        task_id = zygote.prepare(["true"])
        for path in (zygote.path(task_id), zygote.path(task_id) / SPEC):
            os.chown(path, user, user)
        zygote.ask(task_id)
        assert zygote.failure(task_id) == StartFailure(FORK, errno.EAGAIN)
        raised = ["prlimit", "--nproc=100:", "--pid", str(zygote.process.pid)]
        subprocess.run(raised, check=True, user=user, group=user, cwd="/")
        zygote.ask(task_id)
        assert zygote.exit(task_id)["exit_code"] == 0
    finally:
        zygote.close()


@pytest.mark.race
def test_starts_signals_and_kills_all_at_once(zygote: Zygote) -> None:
    ids = [zygote.start(["sleep", "600"], grace_s=1) for _ in range(24)]
    barrier = threading.Barrier(3)

    def signal_all() -> None:
        barrier.wait()
        for task_id in ids[:16]:
            zygote.signal(task_id)

    def kill_some() -> None:
        barrier.wait()
        for task_id in ids[16:]:
            os.kill(zygote.facts(task_id)["pid"], signal.SIGKILL)

    threads = [threading.Thread(target=target) for target in (signal_all, kill_some)]
    for thread in threads:
        thread.start()
    barrier.wait()
    later = [zygote.prepare(["/bin/sh", "-c", f"exit {number}"]) for number in range(16)]
    for task_id in later:
        zygote.ask(task_id)
    for thread in threads:
        thread.join()
    assert [zygote.exit(task_id)["exit_code"] for task_id in later] == list(range(16))
    assert {zygote.exit(task_id)["signal"] for task_id in ids[:16]} == {"SIGTERM"}
    assert {zygote.status(task_id) for task_id in ids[16:]} == {-signal.SIGKILL}


def test_a_shim_waits_in_little_memory(zygote: Zygote) -> None:
    """Private pages only: the rest of the figure, a share of common ones, depends on how many shims there are."""
    if sys.flags.dev_mode:
        pytest.skip("the development mode's allocator needs more")
    ids = []
    for _ in range(12):
        ids.append(zygote.start(["sleep", "600"]))
        zygote.wait_for_hint(ids[-1])  # One that is not heard does not just wait.
    sizes = sorted(_private_kib(zygote.shim(task_id)) for task_id in ids)
    assert sizes[6] <= 512, f"{sizes} KiB"


def _private_kib(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))
