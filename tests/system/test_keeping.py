"""How much of what tasks write is kept: the oldest ended output goes first, results stay, tasks that wait go on."""

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from levity import Client
from levity.states import State
from supervisor.spool.layout import parse_segment
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.launch import refused
from tests.support.paths import levityd_command
from tests.support.tasks import alive, client_of, ended, output, sh

MIB = 2**20
USAGE = 2


def with_options(*options: str) -> list[str]:
    """Return levityd's command; what is over its bounds goes at once."""
    return [*levityd_command(), "--log-min-age", "0", *options]


def writer(size: int) -> str:
    return f"head -c {size} /dev/zero"


def run(client: Client, script: str) -> str:
    task_id = sh(client, script)
    ended(client, task_id)
    return task_id


def stored(daemon: Daemon, task_id: str) -> int:
    """Return how many bytes of a task's output are there, the index included."""
    size = 0
    for path in (daemon.state_dir / "tasks" / task_id).iterdir():
        try:
            size += path.stat().st_size if parse_segment(path.name) else 0
        except FileNotFoundError:
            pass  # Just removed.
    return size


def account(daemon: Daemon) -> dict[str, int]:
    """Return what the registry says is stored of each ended task."""
    database = sqlite3.connect(f"file:{daemon.state_dir}/registry.db?mode=ro", uri=True)
    try:
        return dict(database.execute("SELECT id, bytes FROM logs"))
    finally:
        database.close()


def check_account(daemon: Daemon, tasks: list[str]) -> None:
    """What is written down is what is there."""
    wanted = {task_id: size for task_id in tasks if (size := stored(daemon, task_id))}
    eventually(lambda: account(daemon) == wanted, "registry and files to say the same")


def kept(daemon: Daemon, tasks: list[str]) -> list[int]:
    """Return the numbers of the tasks of which there is output."""
    return [number for number, task_id in enumerate(tasks) if stored(daemon, task_id)]


Make = Callable[..., Daemon]


@pytest.fixture
def small_disk(make_daemon: Make, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start a levityd whose state directory has a disk of its own: `small_disk(size, *options)`."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    place = tmp_path / "disk"
    made: list[Daemon] = []

    def make(size: str, *options: str) -> Daemon:
        place.mkdir(mode=0o700)
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", place], check=False
        ).returncode:
            pytest.skip("this root may not mount")
        made.append(make_daemon(command=with_options(*options), state_dir=place / "state"))
        return made[-1].start()

    yield make
    for daemon in made:
        daemon.end()
        # The last of those that were killed may still be on its way out.
        eventually(lambda: not subprocess.run(["umount", place], check=False).returncode, f"{place} to be unmounted")


def resize(daemon: Daemon, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", daemon.state_dir.parent], check=True)


def free(daemon: Daemon) -> int:
    found = os.statvfs(daemon.state_dir)
    return found.f_bavail * found.f_frsize


# The quota of all ended tasks


def test_over_the_quota_the_oldest_output_goes_and_results_stay(make_daemon: Make) -> None:
    daemon = make_daemon(command=with_options("--log-quota", "1M")).start()
    with client_of(daemon.address) as client:
        tasks = [run(client, f"{writer(400_000)}; exit {number}") for number in range(6)]
        eventually(lambda: kept(daemon, tasks) == [4, 5], "the output of the last two tasks to be left")
        assert output(client, tasks[5]) == (bytes(400_000), b"")
        for turn in range(2):
            for number, task_id in enumerate(tasks):
                record = client.query(task_id)
                assert (record.state, record.exit_code, record.stdout_bytes) == (State.FINISHED, number, 400_000)
            check_account(daemon, tasks)
            if not turn:
                daemon.restart()
        assert kept(daemon, tasks) == [4, 5]


def test_the_output_of_a_live_task_is_never_removed(make_daemon: Make) -> None:
    daemon = make_daemon(command=with_options("--log-quota", "1M")).start()
    with client_of(daemon.address) as client:
        live = sh(client, f"{writer(3 * MIB)}; echo done >&2; exec sleep 600")
        eventually(lambda: stored(daemon, live) > 3 * MIB, "its output")
        tasks = [run(client, writer(700_000)) for _ in range(3)]
        eventually(lambda: kept(daemon, tasks) == [2], "the output of the last task to be left")
        assert output(client, live) == (bytes(3 * MIB), b"done\n")
        # Once it is over, it is the newest, and too much by itself.
        client.signal(live)
        ended(client, live)
        eventually(lambda: kept(daemon, [*tasks, live]) == [], "nothing to be left")
        assert client.query(live).stdout_bytes == 3 * MIB
        check_account(daemon, tasks)


def test_the_end_of_a_task_that_was_quiet_for_long_is_seen(make_daemon: Make) -> None:
    daemon = make_daemon(command=with_options("--log-quota", "1M")).start()
    with client_of(daemon.address) as client:
        tasks = [run(client, f"sleep {delay_s}; {writer(600_000)}") for delay_s in (0, 1.5)]
        eventually(lambda: kept(daemon, tasks) == [1], "the older output to go")


def test_a_smaller_quota_is_kept_from_the_start_on(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    with client_of(daemon.address) as client:
        tasks = [run(client, writer(300_000)) for _ in range(5)]
        assert len(kept(daemon, tasks)) == 5
        daemon.stop()
        smaller = make_daemon(command=with_options("--log-quota", "700K"), state_dir=daemon.state_dir).start()
        eventually(lambda: kept(daemon, tasks) == [3, 4], "the output of the last two tasks to be left")
        smaller.stop()
        daemon.start()


def test_without_a_quota_nothing_goes(make_daemon: Make) -> None:
    daemon = make_daemon(command=with_options("--log-quota", "none", "--min-free", "none")).start()
    with client_of(daemon.address) as client:
        assert (client.info()["log_quota"], client.info()["min_free"]) == (0, 0)
        tasks = [run(client, writer(100_000)) for _ in range(3)]
        check_account(daemon, tasks)
        assert kept(daemon, tasks) == [0, 1, 2]


def test_a_task_whose_shim_was_killed_counts_too(make_daemon: Make) -> None:
    daemon = make_daemon(command=with_options("--log-quota", "1M")).start()
    with client_of(daemon.address) as client:
        lost = sh(client, f"{writer(500_000)}; exec sleep 600")
        files = (daemon.state_dir / "tasks" / lost).glob
        eventually(lambda: sum(file.stat().st_size for file in files("stdout.*")) == 500_000, "its output")
        daemon.kill(f"shim {lost}")
        assert ended(client, lost).state is State.INTERNAL_SERVER_ERROR
        check_account(daemon, [lost])
        tasks = [lost, run(client, writer(400_000)), run(client, writer(400_000))]
        eventually(lambda: kept(daemon, tasks) == [1, 2], "its output to go first")
        assert client.query(lost).stdout_bytes == 500_000


def test_a_registry_made_anew_does_not_count_what_was_removed(make_daemon: Make) -> None:
    daemon = make_daemon(command=with_options("--log-quota", "1M")).start()
    with client_of(daemon.address) as client:
        tasks = [run(client, writer(400_000)) for _ in range(4)]
        eventually(lambda: kept(daemon, tasks) == [2, 3], "the output of the last two tasks to be left")
        daemon.stop()
        for path in daemon.state_dir.glob("registry.db*"):
            path.unlink()
        daemon.start()
        check_account(daemon, tasks)
        tasks.append(run(client, writer(400_000)))
        eventually(lambda: kept(daemon, tasks) == [3, 4], "the oldest output to go")


@pytest.mark.race
def test_an_engine_that_is_killed_while_it_sweeps_has_done_no_harm(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    count = 150
    with client_of(daemon.address) as client:
        tasks = [sh(client, f"echo {number}; exit {number % 50}") for number in range(count)]
        for task_id in tasks:
            ended(client, task_id)
        order = sorted(range(count), key=lambda number: str(client.query(tasks[number]).ended_at))
        each = stored(daemon, tasks[-1])
        daemon.stop()
        one = make_daemon(command=with_options("--log-quota", str(each * 20)), state_dir=daemon.state_dir).start()
        for _ in range(3):
            before = len(kept(daemon, tasks))
            one.kill("engine")
            assert len(kept(daemon, tasks)) <= before
        eventually(lambda: len(kept(daemon, tasks)) <= 20, "the sweep to end")
        eventually(lambda: sum(account(daemon).values()) <= each * 20, "the account to say so")
        check_account(daemon, tasks)
        # The newest are left, and no more went than had to: output that ends within a byte of the quota is not cut.
        left = kept(daemon, tasks)
        assert sorted(left) == sorted(order[-len(left) :])
        assert len(left) >= 19
        for number, task_id in enumerate(tasks):
            assert client.query(task_id).exit_code == number % 50
        assert output(client, tasks[order[-1]])[0] == b"%d\n" % order[-1]


# Free space


def test_the_oldest_output_makes_room_for_what_shall_stay_free(small_disk: Callable[..., Daemon]) -> None:
    daemon = small_disk("32m", "--min-free", "16M")
    with client_of(daemon.address) as client:
        assert client.info()["min_free"] == 16 * MIB
        tasks = [run(client, writer(6 * MIB)) for _ in range(5)]
        eventually(lambda: kept(daemon, tasks) == [3, 4] and free(daemon) >= 16 * MIB, "16 MiB to be free")
        check_account(daemon, tasks)


def test_a_task_on_a_full_disk_goes_on_where_output_can_be_removed(small_disk: Callable[..., Daemon]) -> None:
    daemon = small_disk("16m", "--min-free", "1M")
    with client_of(daemon.address) as client:
        tasks = [run(client, f"{writer(4 * MIB)}; exit 7") for _ in range(3)]
        greedy = run(client, writer(10 * MIB))
        assert output(client, greedy) == (bytes(10 * MIB), b"")
        assert kept(daemon, tasks) in ([], [2])
        assert [client.query(task_id).exit_code for task_id in tasks] == [7, 7, 7]


def test_a_task_that_waits_for_room_says_so(small_disk: Callable[..., Daemon]) -> None:
    daemon = small_disk("4m", "--min-free", "none")
    with client_of(daemon.address) as client:
        before = run(client, writer(MIB))
        assert client.call("task.query", {"id": before})["waiting"] is None
        task_id = sh(client, writer(5 * MIB))

        def waiting() -> str:
            return str(client.call("task.query", {"id": task_id})["waiting"] or "")

        assert "no space" in eventually(waiting, "the task to say that it waits")
        for turn in range(2):
            listed = client.call("task.list", {"all": False, "after": None, "limit": 10})["tasks"]
            assert [(record["id"], record["state"]) for record in listed] == [(task_id, State.RUNNING)]
            assert "no space" in listed[0]["waiting"]
            assert "no space" in waiting()
            if not turn:  # An engine that finds it so says so, too.
                daemon.kill("engine")
        # Nothing is removed where that was ruled out.
        assert kept(daemon, [before]) == [0]
        resize(daemon, "32m")
        eventually(lambda: not waiting(), "the task to go on")
        assert ended(client, task_id).exit_code == 0
        assert output(client, task_id) == (bytes(5 * MIB), b"")


def test_the_little_that_is_kept_on_a_disk_that_others_filled_is_spared(small_disk: Callable[..., Daemon]) -> None:
    daemon = small_disk("64m")
    minimum = 64 * MIB // 20
    with client_of(daemon.address) as client:
        assert client.info()["min_free"] == minimum
        with (daemon.state_dir.parent / "ballast").open("wb") as ballast:
            ballast.write(bytes(62 * MIB))
        assert free(daemon) < minimum
        small = [run(client, writer(100_000)) for _ in range(3)]
        time.sleep(1.5)  # More than the pause between two looks: what is to be seen is that nothing happens.
        assert kept(daemon, small) == [0, 1, 2]
        large = run(client, writer(MIB))
        # Now that there is something to be gained, the oldest go, as ever.
        eventually(lambda: kept(daemon, [*small, large]) == [], "the oldest to go, the large one too")


# Settings


def test_settings_are_told_and_handed_to_tasks(make_daemon: Make) -> None:
    options = ("--log-cap", "2M", "--log-quota", "1.5g", "--min-free", "300K")
    daemon = make_daemon(command=with_options(*options)).start()
    with client_of(daemon.address) as client:
        info = client.info()
        assert (info["log_cap"], info["log_quota"], info["min_free"]) == (2 * MIB, 3 * 2**29, 300 * 1024)
        start: dict[str, object] = {"argv": ["true"], "cwd": None, "env": {}}
        ids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(3)]
        records = [
            client.call("task.start", {"id": ids[0], **start}),
            client.call("task.start", {"id": ids[1], **start, "log_cap": 0}),
            client.call("task.start", {"id": ids[2], **start, "log_cap": 4 * MIB}),
        ]
        assert [record["log_cap"] for record in records] == [2 * MIB, 0, 4 * MIB]


def test_the_defaults(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        info = client.info()
    found = os.statvfs(shared_daemon.state_dir)
    assert (info["log_cap"], info["log_quota"]) == (2**30, 10 * 2**30)
    assert info["min_free"] == min(2**30, found.f_blocks * found.f_frsize // 20)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--log-cap", "1K"), ("--log-cap", "much"), ("--log-quota", "-1"), ("--log-quota", ""), ("--min-free", "10%")],
)
def test_a_size_that_is_none_is_refused(tmp_path: Path, option: str, value: str) -> None:
    code, line = refused(tmp_path / "state", f"{option}={value}")
    assert code == USAGE
    assert option in line
    assert not (tmp_path / "state").exists()


# Rest


def test_an_idle_engine_sleeps(make_daemon: Make) -> None:
    daemon = make_daemon(command=with_options("--log-quota", "100K")).start()
    with client_of(daemon.address) as client:
        tasks = [run(client, writer(90_000)) for _ in range(3)]
        live = sh(client, "exec sleep 600")
        eventually(lambda: kept(daemon, tasks) == [2], "the sweep")
        engine = psutil.Process(daemon.pid_of("engine"))
        time.sleep(1.5)  # More than the pause between two looks.
        before = engine.num_ctx_switches().voluntary
        time.sleep(3.0)
        # The arbiter asks every ten seconds whether it is there.
        assert engine.num_ctx_switches().voluntary - before <= 2
        assert alive(client.query(live).pid or 0)
