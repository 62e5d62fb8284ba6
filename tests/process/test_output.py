"""A task's output: every byte, in order, whatever the task, its relatives or the disk do."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from levity.states import State
from supervisor.spool.start_failure import StartFailure
from tests.support.deadline import eventually
from tests.support.spool import fetch, opened
from tests.support.tasks import alive, running_in
from tests.support.zygote import Zygote


def test_files_are_plain_and_hold_exactly_what_was_written(zygote: Zygote) -> None:
    code = "import os; os.write(1, bytes(range(256))); os.write(2, b'\\xf0\\x9f'); os.write(2, b'\\x8e\\x88\\n')"
    record = zygote.run([sys.executable, "-I", "-S", "-c", code])
    path = zygote.path(record["id"])
    assert (path / "stdout.0000000000000000.log").read_bytes() == bytes(range(256))
    assert (path / "stderr.0000000000000000.log").read_bytes() == "🎈\n".encode()
    assert (record["stdout_bytes"], record["stderr_bytes"]) == (256, 5)


def test_a_task_without_output_leaves_no_files_for_it(zygote: Zygote) -> None:
    record = zygote.run(["true"])
    assert sorted(os.listdir(zygote.path(record["id"]))) == ["control", "exit.json", "lock", "shim.json", "spec.json"]
    assert (record["stdout_bytes"], record["stderr_bytes"]) == (0, 0)
    assert zygote.output(record["id"]) == (b"", b"")


def test_the_index_has_the_order_of_both_streams(zygote: Zygote) -> None:
    """The writer waits for each piece to be indexed, so the order is no matter of luck."""
    code = (
        "import os, random, time\n"
        "rng = random.Random(5)\n"
        "index = 'tasks/%s/index.0000000000000000' % os.environ['LEVITY_TASK_ID']\n"
        "for n in range(40):\n"
        "    os.write(rng.choice((1, 2)), b'%02d;' % n)\n"
        "    while not os.path.exists(index) or os.path.getsize(index) != (n + 1) * 40: time.sleep(0.001)\n"
    )
    task_id = zygote.run([sys.executable, "-I", "-S", "-c", code], cwd=str(zygote.directory))["id"]
    with opened(zygote.path(task_id), exact=True) as reader:
        parts, told = fetch(reader.pieces(4))
    pieces = [part[:2] for part in parts]
    times = [part[2] for part in parts]
    assert told == []
    rng = random.Random(5)
    assert pieces == [(rng.choice((1, 2)), b"%02d;" % number) for number in range(40)]
    assert times == sorted(times)


def test_a_flood_arrives_whole(zygote: Zygote) -> None:
    code = (
        "import os, random\n"
        "rng = random.Random(7)\n"
        "data = rng.randbytes(20_000_000)\n"
        "while data: data = data[os.write(1, data[:rng.randrange(1, 300_000)]):]\n"
    )
    record = zygote.run([sys.executable, "-I", "-S", "-c", code])
    stdout, _stderr = zygote.output(record["id"])
    assert len(stdout) == record["stdout_bytes"] == 20_000_000
    assert stdout == random.Random(7).randbytes(20_000_000)


def test_a_task_may_close_its_output(zygote: Zygote) -> None:
    record = zygote.run(["/bin/sh", "-c", "echo out; exec 1>&-; echo err >&2; exec 2>&-; sleep 0.2; exit 3"])
    assert (record["state"], record["exit_code"]) == (State.FINISHED, 3)
    assert zygote.output(record["id"]) == (b"out\n", b"err\n")


def test_a_stopped_shim_makes_its_task_wait_and_loses_nothing(zygote: Zygote) -> None:
    task_id = zygote.prepare(
        ["/bin/sh", "-c", "while [ ! -e go ]; do sleep 0.01; done; seq 100000"], cwd=str(zygote.directory)
    )
    zygote.ask(task_id)
    pid = zygote.facts(task_id)["task_pid"]
    shim = zygote.shim(task_id)
    os.kill(shim, signal.SIGSTOP)
    (zygote.directory / "go").touch()
    eventually(lambda: _waits_for_pipe(pid), "the task to fill its pipe")
    os.kill(shim, signal.SIGCONT)
    zygote.exit(task_id)
    assert zygote.output(task_id)[0] == b"".join(b"%d\n" % n for n in range(1, 100001))


def _waits_for_pipe(pid: int) -> bool:
    """Whether a process of this group sleeps in the writing of a full pipe."""
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and process.name() == "seq":
                with open(f"/proc/{process.pid}/wchan") as file:
                    return "pipe_write" in file.read()
        except (psutil.Error, OSError):
            continue
    return False


def test_a_pipe_held_open_from_outside_the_tree_is_sealed(hasty_zygote: Zygote) -> None:
    """A process outside the tree has the pipe open through /proc: the shim must not kill it for that."""
    zygote = hasty_zygote
    task_id = zygote.sh("echo first; while [ ! -e go ]; do sleep 0.01; done; exit 2", cwd=str(zygote.directory))
    pid = zygote.facts(task_id)["task_pid"]
    with open(f"/proc/{pid}/fd/1", "wb", buffering=0) as pipe:
        (zygote.directory / "go").touch()
        eventually(lambda: not alive(pid), "the leader to exit")
        pipe.write(b"late\n")
        record = zygote.exit(task_id)
        with pytest.raises(BrokenPipeError):
            pipe.write(b"too late\n")
    assert (record["state"], record["exit_code"]) == (State.FINISHED, 2)
    assert "output cut" in record["reason"]
    assert zygote.output(task_id)[0] == b"first\nlate\n"
    assert record["stdout_bytes"] == 11


def test_nothing_is_cut_if_the_process_outside_the_tree_leaves_in_time(hasty_zygote: Zygote) -> None:
    zygote = hasty_zygote
    task_id = zygote.sh("while [ ! -e go ]; do sleep 0.01; done", cwd=str(zygote.directory))
    pid, shim = zygote.facts(task_id)["task_pid"], zygote.shim(task_id)
    with open(f"/proc/{pid}/fd/1", "wb", buffering=0) as pipe:
        (zygote.directory / "go").touch()
        eventually(lambda: not alive(pid), "the leader to exit")
        time.sleep(0.1)  # For the shim to see that, or the rest is no test, but passes.
        os.kill(shim, signal.SIGSTOP)
        pipe.write(b"late\n")
    time.sleep(2.1)  # Longer than the shim waits for it.
    os.kill(shim, signal.SIGCONT)
    assert "output cut" not in zygote.exit(task_id)["reason"]
    assert zygote.output(task_id)[0] == b"late\n"


# A disk that is full


def fill(zygote: Zygote) -> Path:
    """Leave no room on the disk."""
    path = zygote.directory / "ballast"
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    return path


def test_while_the_disk_is_full_the_task_waits_and_nothing_is_lost(tight_zygote: Zygote) -> None:
    zygote = tight_zygote
    task_id = zygote.sh("seq 250000; echo done >&2")  # 1.6 MB
    shim = psutil.Process(zygote.shim(task_id))
    eventually(lambda: os.statvfs(zygote.directory).f_bavail == 0, "the disk to be full")
    # It neither fails nor spins, and still obeys.
    used = sum(shim.cpu_times()[:2])
    time.sleep(0.5)  # The one thing to see here is that nothing happens.
    assert sum(shim.cpu_times()[:2]) - used < 0.3
    assert alive(zygote.facts(task_id)["task_pid"])
    assert zygote.record(task_id, "exit.json") is None
    subprocess.run(["mount", "-o", "remount,size=8m", zygote.directory], check=True)
    assert zygote.exit(task_id)["exit_code"] == 0
    assert zygote.output(task_id) == (b"".join(b"%d\n" % n for n in range(1, 250001)), b"done\n")


def test_a_task_that_waits_for_a_full_disk_can_be_signalled(tight_zygote: Zygote) -> None:
    zygote = tight_zygote
    task_id = zygote.sh("exec yes")
    eventually(lambda: os.statvfs(zygote.directory).f_bavail == 0, "the disk to be full")
    pid = zygote.facts(task_id)["task_pid"]
    zygote.signal(task_id)
    eventually(lambda: not alive(pid), "the task to end")
    shim = psutil.Process(zygote.shim(task_id))
    used = sum(shim.cpu_times()[:2])
    time.sleep(1.0)  # Longer than the drain: what is in the pipe must not be given up for lack of room.
    assert sum(shim.cpu_times()[:2]) - used < 0.5
    subprocess.run(["mount", "-o", "remount,size=8m", zygote.directory], check=True)
    record = zygote.exit(task_id)
    assert (record["state"], record["signal"]) == (State.FINISHED, "SIGTERM")
    stdout = zygote.output(task_id)[0]
    assert len(stdout) == record["stdout_bytes"] > 900_000
    assert set(stdout.splitlines()) <= {b"y"}
    assert "output cut" not in record["reason"]


def test_output_from_outside_the_tree_waits_for_room_and_is_not_cut(tight_zygote: Zygote) -> None:
    """The shim's wait is over while the pipe holds more than the disk takes."""
    zygote = tight_zygote
    task_id = zygote.sh("while [ ! -e go ]; do sleep 0.01; done", cwd=str(zygote.directory))
    pid, shim = zygote.facts(task_id)["task_pid"], zygote.shim(task_id)
    with open(f"/proc/{pid}/fd/1", "wb", buffering=0) as pipe:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 512 * 1024)
        (zygote.directory / "go").touch()
        eventually(lambda: not alive(pid), "the leader to exit")
        time.sleep(0.1)  # For the shim to see that, or the rest is no test, but passes.
        os.kill(shim, signal.SIGSTOP)
        assert pipe.write(b"x" * 400_000) == 400_000
        ballast = fill(zygote)
        os.truncate(ballast, ballast.stat().st_size - 200_000)
        time.sleep(0.4)  # Longer than the shim waits for it.
        os.kill(shim, signal.SIGCONT)
        eventually(lambda: os.statvfs(zygote.directory).f_bavail == 0, "the disk to be full")
        time.sleep(0.4)
        ballast.unlink()
        record = zygote.exit(task_id)
    assert "output cut" in record["reason"]
    assert zygote.output(task_id)[0] == b"x" * 400_000


def test_the_exit_record_waits_for_room(tight_zygote: Zygote) -> None:
    zygote = tight_zygote
    task_id = zygote.start(["sleep", "600"])
    ballast = fill(zygote)
    pid = zygote.facts(task_id)["task_pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), "the task to end")
    assert zygote.shim(task_id)
    ballast.unlink()
    assert zygote.exit(task_id)["exit_code"] == 137


def test_a_start_on_a_full_disk_fails_and_leaves_nothing(tight_zygote: Zygote) -> None:
    zygote = tight_zygote
    zygote.run(["true"])  # By then its rehearsal has left.
    task_id = zygote.prepare(["true"])
    ballast = fill(zygote)
    zygote.ask(task_id)
    assert zygote.failure(task_id) == StartFailure("note", errno.ENOSPC)
    assert sorted(os.listdir(zygote.path(task_id))) == ["lock", "spec.json"]
    ballast.unlink()
    zygote.ask(task_id)
    assert zygote.exit(task_id)["exit_code"] == 0


def test_a_file_size_limit_is_met_like_a_full_disk(tmp_path: Path) -> None:
    zygote = Zygote(tmp_path)
    try:
        task_id = zygote.sh("while [ ! -e go ]; do sleep 0.01; done; seq 100000", cwd=str(tmp_path))
        shim = zygote.shim(task_id)
        psutil.Process(shim).rlimit(psutil.RLIMIT_FSIZE, (100_000, -1))
        (tmp_path / "go").touch()
        spool = zygote.path(task_id) / "stdout.0000000000000000.log"
        eventually(lambda: spool.stat().st_size == 100_000, "the limit")
        psutil.Process(shim).rlimit(psutil.RLIMIT_FSIZE, (-1, -1))
        zygote.exit(task_id)
        assert zygote.output(task_id)[0] == b"".join(b"%d\n" % n for n in range(1, 100001))
    finally:
        zygote.close()


def test_output_of_a_child_after_its_leader_belongs_to_the_task(zygote: Zygote) -> None:
    script = "sh -c 'trap \"echo last; exit\" TERM; echo $$ > child; while :; do sleep 0.02; done' & "
    task_id = zygote.sh(script + "while [ ! -s child ]; do sleep 0.01; done; exit 0", cwd=str(zygote.directory))
    zygote.exit(task_id)
    assert not alive(running_in(zygote.directory, "child"))
    assert zygote.output(task_id)[0] == b"last\n"
