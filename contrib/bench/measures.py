"""Measures: a function for each figure. Runs in: `make bench`. Owns: nothing beyond its own run."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from contrib.bench import log_measures, stranger_measures
from contrib.bench.scratch import (
    Row,
    Settings,
    client_of,
    cpu_seconds,
    median,
    scratch_daemon,
    start_sleepers,
    timed,
)
from levity import Client, State
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.paths import levity_command

__all__ = ["MEASURES"]

Value = TypeVar("Value")

_context = multiprocessing.get_context("fork")


def query(settings: Settings) -> list[Row]:
    """One `levity query`, beside the shortest Python program."""
    bare = [sys.executable, "-I", "-S", "-c", "pass"]
    with scratch_daemon(settings) as daemon:
        (task,) = start_sleepers(daemon, 1)
        ours = [*levity_command(), "-a", str(daemon.address), "query", task]
        some = Settings(settings.runs * 10, settings.quick, settings.place)
        one, other = median(some, lambda: timed(ours)), median(some, lambda: timed(bare))
    text = "`levity query`, wall time"
    return [_times(text, f"{one * 1000:.1f} ms", f"{other * 1000:.1f} ms (bare Python)", one / other, 3.5)]


def tasks(settings: Settings) -> list[Row]:
    """Tasks that do nothing, from the first start until all are Finished."""
    count = 400 if settings.quick else 2000
    with scratch_daemon(settings) as daemon:
        one = median(settings, lambda: _task_rate(daemon, count, 1))
        four = median(settings, lambda: _task_rate(daemon, count, 4))
        bare = median(settings, lambda: count / sum(timed(["/bin/true"]) for _ in range(count)))
    beside = f"{bare:.0f}/s (posix_spawn, wait)"
    return [
        Row("`/bin/true` to Finished, 1 caller", f"{one:.0f}/s", beside, f"{one / bare:.2f}"),
        Row("the same, 4 callers", f"{four:.0f}/s", beside, f"{four / bare:.2f}", ">= 300/s", four >= 300),
    ]


def _task_rate(daemon: Daemon, count: int, callers: int) -> float:
    """Submit `count` tasks from so many processes; return tasks per second until the last is over."""
    before = _finished(daemon)
    address = str(daemon.address)
    processes = [_context.Process(target=_submit, args=(address, count // callers)) for _ in range(callers)]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with client_of(daemon) as client:
        eventually(lambda: client.info()["live"] == 0, "the end of all tasks", 120)
    took = time.perf_counter() - began
    assert _finished(daemon) - before == count, "not all tasks are Finished with 0"
    return count / took


def _submit(address: str, count: int) -> None:
    with Client(address) as client:
        for _ in range(count):
            client.start(["/bin/true"])


def _finished(daemon: Daemon) -> int:
    with client_of(daemon) as client:
        return sum(record.state is State.FINISHED and record.exit_code == 0 for record in client.list(all=True))


def memory(settings: Settings) -> list[Row]:
    """The memory of a live task's shim, shared pages counted in proportion."""
    count = 200
    with scratch_daemon(settings) as daemon:
        start_sleepers(daemon, count)
        shims = _shims(daemon)
        assert len(shims) == count
        mean = sum(_pss_kib(pid) for pid in shims) / count / 1024
    return [Row(f"PSS of a shim, {count} live tasks", f"{mean:.2f} MiB", "", "", "<= 0.5 MiB", mean <= 0.5)]


def _shims(daemon: Daemon) -> list[int]:
    return [pids[0] for role, pids in daemon.pids().items() if role.startswith("shim ")]


def _pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss in smaps_rollup")


def output(settings: Settings) -> list[Row]:
    """A task that writes as fast as it can, and the same command writing to a file."""
    blocks = 4096 if settings.quick else 32768
    command = ["dd", "if=/dev/zero", "bs=65536", f"count={blocks}"]
    size = f"{blocks * 65536 / 2**30:g} GiB in 64 KiB blocks"
    with scratch_daemon(settings) as daemon:
        beside = daemon.state_dir.parent / "beside"
        to_file = [*command, f"of={beside}", "conv=fdatasync"]
        direct = median(settings, lambda: _fresh(beside, lambda: timed(command, stdout=str(beside))))
        synced = median(settings, lambda: _fresh(beside, lambda: timed(to_file)))
        pairs = [_fresh(beside, lambda: _write(daemon, command)) for _ in range(settings.runs + 1)][1:]
    task, stored = (sorted(values)[len(values) // 2] for values in zip(*pairs, strict=True))
    rate = blocks / 16
    return [
        Row(
            f"a task writing {size}, until it has exited",
            f"{rate / task:.0f} MiB/s",
            f"{rate / direct:.0f} MiB/s (to a file)",
            f"{direct / task:.2f}",
            ">= 0.4",
            direct / task >= 0.4,
        ),
        Row(
            "the same, until Finished and on the disk",
            f"{rate / stored:.0f} MiB/s",
            f"{rate / synced:.0f} MiB/s (to a file, fdatasync)",
            f"{synced / stored:.2f}",
        ),
    ]


def _fresh(file: Path, measure: Callable[[], Value]) -> Value:
    """Remove `file`, and have all earlier data written back, before a measure."""
    file.unlink(missing_ok=True)
    os.sync()
    return measure()


def _write(daemon: Daemon, command: list[str]) -> tuple[float, float]:
    """Run a task that writes; return how long until it had exited and until it was Finished. Removes its output."""
    with client_of(daemon) as client:
        began = time.perf_counter()
        task = client.start(command, log_cap=0)
        eventually(lambda: client.query(task).state.is_end, "the end of the writing task", 120)
        stored = time.perf_counter() - began
        record = client.query(task)
    assert record.exit_code == 0, record.reason
    for path in (daemon.state_dir / "tasks" / task).glob("std*.log"):
        os.truncate(path, 0)
    return _seconds(record.ended_at) - _seconds(record.started_at), stored


def _seconds(at: str | None) -> float:
    assert at is not None
    whole, _dot, fraction = at.rstrip("Z").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction}")


def idle(settings: Settings) -> list[Row]:
    """What levityd does while there is no work."""
    count, span_s = 200, 10.0 if settings.quick else 60.0
    with scratch_daemon(settings) as daemon:
        start_sleepers(daemon, count)
        pids = [pid for role in daemon.pids().values() for pid in role]
        time.sleep(2.0)  # Until the work of their start is done.
        before = cpu_seconds(pids)
        time.sleep(span_s)
        used = (cpu_seconds(pids) - before) * 60 / span_s
    text = f"CPU time a minute, {count} sleeping tasks, {len(pids)} processes"
    return [Row(text, f"{used * 1000:.1f} ms", "", "", "< 100 ms", used < 0.1)]


def engine(settings: Settings) -> list[Row]:
    """SIGKILL the engine and ask for every task."""
    count = 200 if settings.quick else 1000
    with scratch_daemon(settings) as daemon, client_of(daemon) as client:
        ids = start_sleepers(daemon, count)
        runs = sorted((_kill_and_ask(daemon, client, ids) for _ in range(settings.runs)), key=lambda times: times[1])
        first, every = runs[len(runs) // 2]
        began = time.perf_counter()
        _ask_all(client, ids)
        usual = time.perf_counter() - began
    return [
        Row(f"engine killed, {count} live tasks: first answer", f"{first:.2f} s", "", "", "< 1 s", first < 1),
        Row(
            f"the same: all {count} queries answered",
            f"{every:.2f} s",
            f"{usual:.2f} s (engine not killed)",
            f"{every / usual:.1f}",
            "< 1 s",
            every < 1,
        ),
    ]


def _kill_and_ask(daemon: Daemon, client: Client, ids: list[str]) -> tuple[float, float]:
    pid = daemon.pid_of("engine")
    began = time.perf_counter()
    os.kill(pid, 9)
    _ask_all(client, ids[:1])
    first = time.perf_counter() - began
    _ask_all(client, ids)
    return first, time.perf_counter() - began


def _ask_all(client: Client, ids: list[str]) -> None:
    for task in ids:
        assert client.query(task).state is State.RUNNING


def _times(figure: str, ours: str, beside: str, ratio: float, limit: float) -> Row:
    return Row(figure, ours, beside, f"{ratio:.2f}", f"<= {limit}", ratio <= limit)


MEASURES: dict[str, Callable[[Settings], list[Row]]] = {
    "query": query,
    "tasks": tasks,
    "memory": memory,
    "output": output,
    "idle": idle,
    "engine": engine,
    "replay": log_measures.replay,
    "replay-memory": log_measures.replay_memory,
    "follow": log_measures.follow,
    "followers": log_measures.followers,
    "find": log_measures.find,
    "crowd": log_measures.crowd,
    "strangers": stranger_measures.strangers,
}
