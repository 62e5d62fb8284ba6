"""Measures of reading output, a function each. Runs in: `make bench`. Owns: nothing beyond its own run."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from contrib.bench import loopback
from contrib.bench.scratch import MIB, Row, Settings, client_of, median, scratch_daemon, timed
from tests.support.daemon import Daemon
from tests.support.paths import levity_command

__all__ = ["crowd", "find", "follow", "followers", "replay", "replay_memory"]

_PACED = """
import os, sys, time
count, rate = int(sys.argv[1]), int(sys.argv[2])
began = time.monotonic()
for number in range(count):
    due = began + number / rate
    while (now := time.monotonic()) < due:
        time.sleep(due - now)
    os.write(1, b"%d %d\\n" % (number, time.time_ns()))
"""
_QUANTILES = 100


def _paced(count: int, rate: int) -> list[str]:
    """Return a command that writes `count` lines with their numbers and times, `rate` a second."""
    return [sys.executable, "-I", "-S", "-c", _PACED, str(count), str(rate)]


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=_QUANTILES)[-1]


def _logs(daemon: Daemon, *arguments: str) -> list[str]:
    return [*levity_command(), "-a", str(daemon.address), "logs", *arguments]


def _seconds(at: str | None) -> float:
    assert at is not None
    whole, _dot, fraction = at.rstrip("Z").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction}")


def replay(settings: Settings) -> list[Row]:
    """Reading a log back over loopback, and a file through a plain socket."""
    mib = 128 if settings.quick else 1024
    with scratch_daemon(settings, "127.0.0.1:0") as daemon:
        task = _write(daemon, mib)
        (log,) = (daemon.state_dir / "tasks" / task).glob("stdout.0000000000000000.log")
        whole = log.with_name("beside")
        with whole.open("wb") as file:
            subprocess.run(_logs(daemon, task), stdout=file, stderr=subprocess.DEVNULL, check=True)
        assert whole.stat().st_size == mib * MIB
        ours = median(settings, lambda: timed(_logs(daemon, task)))
        plain = median(settings, lambda: loopback.cat(whole))
    text = f"`levity logs` of {mib} MiB over loopback to /dev/null"
    beside = f"{mib / plain:.0f} MiB/s (cat to a socket)"
    return [Row(text, f"{mib / ours:.0f} MiB/s", beside, f"{plain / ours:.2f}", ">= 0.5", plain / ours >= 0.5)]


def _write(daemon: Daemon, mib: int) -> str:
    """Run a task that writes so many bytes without a line end, and return its id."""
    with client_of(daemon) as client:
        task = client.start(["dd", "if=/dev/zero", "bs=65536", f"count={mib * 16}"], log_cap=0)
        assert client.wait(task)[0].exit_code == 0
    return task


def replay_memory(settings: Settings) -> list[Row]:
    """The most memory that client and front-end ever have, with a small log and with a large one."""
    sizes = (16, 128 if settings.quick else 1024)
    with scratch_daemon(settings, "127.0.0.1:0") as daemon:
        found = [_peaks(daemon, _write(daemon, mib)) for mib in sizes]
    rows = []
    for who, small, large in zip(("client", "front-end"), *found, strict=True):
        text = f"peak memory of the {who}, replay of {sizes[1]} MiB"
        beside = f"{small / 1024:.1f} MiB ({sizes[0]} MiB)"
        rows.append(
            Row(text, f"{large / 1024:.1f} MiB", beside, f"{large / small:.2f}", "<= 1.1", large <= small * 1.1)
        )
    return rows


def _peaks(daemon: Daemon, task: str) -> tuple[int, int]:
    """Replay a log; return the peaks of client and front-end in KiB."""
    with subprocess.Popen(_logs(daemon, task), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        client = 0
        while process.stdout.read(8 * MIB):
            # Asked while the process lives: wait4(2) would count the memory of its parent before exec, too.
            client = max(client, _peak(process.pid))
    assert process.returncode == 0
    return client, _peak(daemon.pid_of("front-end"))


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def follow(settings: Settings) -> list[Row]:
    """How long after a task wrote a line `levity logs -f` has written it."""
    count = 300 if settings.quick else 2000
    with scratch_daemon(settings, "127.0.0.1:0") as daemon, client_of(daemon) as client:
        task = client.start(_paced(count, 100))
        with subprocess.Popen(_logs(daemon, "-f", task), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            late = [(time.time_ns() - int(line.split()[1])) / 1e6 for line in process.stdout]
        assert len(late) == count
    late = sorted(late[count // 10 :])  # The first came before the client.
    one, other = statistics.median(late), _p99(late)
    text = f"from a task's write to `levity logs -f`'s, {count} lines"
    return [
        Row(f"{text}: median", f"{one:.2f} ms", "", "", "<= 10 ms", one <= 10),
        Row("the same: p99", f"{other:.2f} ms", "", "", "<= 50 ms", other <= 50),
    ]


def followers(settings: Settings) -> list[Row]:
    """A task of 10 000 lines a second, alone and with 100 followers."""
    count, number = (20_000, 100) if settings.quick else (100_000, 100)
    with scratch_daemon(settings, "127.0.0.1:0") as daemon, client_of(daemon) as client:
        alone = _duration(daemon, client.start(_paced(count, 10_000)))
        gate = daemon.state_dir.parent / "go"
        script = f'while [ ! -e {gate} ]; do sleep 0.05; done; exec "$0" "$@"'
        task = client.start(["/bin/sh", "-c", script, *_paced(count, 10_000)])
        files = [daemon.state_dir.parent / f"follower-{n}" for n in range(number)]
        opened = [file.open("wb") for file in files]
        running = [subprocess.Popen(_logs(daemon, "-f", task), stdout=file) for file in opened]
        _until_connected(daemon, number)
        began = time.time()
        gate.touch()
        crowded = _duration(daemon, task, began)
        assert all(process.wait() == 0 for process in running)
        for file in opened:
            file.close()
        log = b"".join(part.read_bytes() for part in sorted((daemon.state_dir / "tasks" / task).glob("stdout.*.log")))
        complete = sum(file.read_bytes() == log for file in files)
        assert log.count(b"\n") == count
    ratio = crowded / alone
    text = f"{count} lines at 10 000/s, {number} followers: the task's time"
    beside = f"{alone:.2f} s (no follower)"
    return [
        Row(text, f"{crowded:.2f} s", beside, f"{ratio:.2f}", "<= 1.1", ratio <= 1.1),
        Row("the same: followers who got every byte", f"{complete}", "", "", f"{number}", complete == number),
    ]


def _until_connected(daemon: Daemon, number: int) -> None:
    """Return once so many threads serve followers."""
    tasks = Path(f"/proc/{daemon.pid_of('front-end')}/task")
    give_up_at = time.monotonic() + 60
    while len(list(tasks.iterdir())) < number:
        assert time.monotonic() < give_up_at, "the followers do not connect"
        time.sleep(0.1)
    time.sleep(1.0)


def _duration(daemon: Daemon, task: str, began: float | None = None) -> float:
    with client_of(daemon) as client:
        (record,) = client.wait(task)
    assert record.exit_code == 0, record.reason
    return _seconds(record.ended_at) - (_local(began) if began else _seconds(record.started_at))


def _local(at: float) -> float:
    """Return a time as `_seconds` does, which takes UTC for local time."""
    return time.mktime(time.gmtime(at)) + at % 1


def find(settings: Settings) -> list[Row]:
    """The end and the middle of a large log, beside the time of the client for an empty log."""
    gib = 1 if settings.quick else 5
    with scratch_daemon(settings, "127.0.0.1:0") as daemon, client_of(daemon) as client:
        script = f"yes 'a line of a log that is not very long, and not very short' | head -c {gib}G; echo; echo end"
        large = client.start(["/bin/sh", "-c", script], log_cap=0)
        empty = client.start(["true"])
        record, _nothing = client.wait([large, empty])
        began, ended = _seconds(record.started_at), _seconds(record.ended_at)
        middle = began + (ended - began) / 2 - _local(0.0)
        some = Settings(settings.runs * 4, settings.quick, settings.place)
        nothing = median(some, lambda: timed(_logs(daemon, empty)))
        tail = median(some, lambda: timed(_logs(daemon, "-n", "10", large)))
        since = _logs(daemon, "--since", f"{middle:.6f}", "--until", f"{middle + 0.001:.6f}", large)
        found = median(some, lambda: timed(since))
    rows = []
    for text, took in (("`logs -n 10`", tail), ("`logs --since` in the middle, of 1 ms,", found)):
        above = (took - nothing) * 1000
        rows.append(
            Row(
                f"{text} of {gib} GiB, above the client's start",
                f"{above:.1f} ms",
                f"{nothing * 1000:.1f} ms (an empty log)",
                f"{took / nothing:.2f}",
                "< 50 ms",
                above < 50,
            )
        )
    return rows


def crowd(settings: Settings) -> list[Row]:
    """Queries while 64 clients replay a log."""
    number, mib = 64, 64 if settings.quick else 512
    with scratch_daemon(settings, "127.0.0.1:0") as daemon, client_of(daemon) as client:
        task = _write(daemon, mib)
        running = [
            subprocess.Popen(_logs(daemon, task), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(number)
        ]
        _until_connected(daemon, number)
        took = []
        while all(process.poll() is None for process in running):
            began = time.perf_counter()
            client.query(task)
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(0.005)
        assert all(process.wait() == 0 for process in running)
    p99 = _p99(took)
    text = f"a query while {number} clients replay {mib} MiB each: p99 of {len(took)}"
    return [Row(text, f"{p99:.1f} ms", f"{statistics.median(took):.1f} ms (median)", "", "< 100 ms", p99 < 100)]
