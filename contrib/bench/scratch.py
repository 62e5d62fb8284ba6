"""A levityd to be measured, and what several measures need. Runs in: `make bench`. Owns: that levityd and its files."""

import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import levity
from tests.support.daemon import Daemon
from tests.support.deadline import eventually

__all__ = ["MIB", "Row", "Settings", "client_of", "cpu_seconds", "median", "scratch_daemon", "start_sleepers", "timed"]

MIB = 1024 * 1024
ENDING_S = 120.0


@dataclass(frozen=True)
class Settings:
    """How to measure: `runs` of each, in directory `place`; `quick` for a first impression with smaller numbers."""

    runs: int
    quick: bool
    place: str


@dataclass(frozen=True)
class Row:
    """A line of the table. `met` is None where there is no target."""

    figure: str
    levity: str
    beside: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        """Return the texts of the line."""
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return [self.figure, self.levity, self.beside, self.ratio, self.target, met]


@contextmanager
def scratch_daemon(settings: Settings, address: str | None = None) -> Iterator[Daemon]:
    """Run a levityd on a fresh state directory; all its tasks are ended and its files removed afterwards."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = Path(tempfile.mkdtemp(prefix="levity-bench-", dir=settings.place))
    daemon = Daemon(address, state_dir=directory / "state")
    # Where clients, also those that are run as a command, find the token for it.
    os.environ["LEVITY_STATE_DIR"] = str(daemon.state_dir)
    try:
        daemon.start()
        yield daemon
        _end_tasks(daemon)
    finally:
        daemon.end()
        del os.environ["LEVITY_STATE_DIR"]
        shutil.rmtree(directory, ignore_errors=True)


def _end_tasks(daemon: Daemon) -> None:
    """Signal all live tasks. Daemon.end would search for a thousand of them, which takes long."""
    with client_of(daemon) as client:
        for record in list(client.list()):
            client.signal(record.id)
        eventually(lambda: client.info()["live"] == 0, "the end of all tasks", ENDING_S)


def client_of(daemon: Daemon) -> levity.Client:
    """Return a new client of that levityd."""
    return levity.Client(daemon.address, timeout=120.0)


def start_sleepers(daemon: Daemon, count: int) -> list[str]:
    """Start tasks that do nothing, and return their ids."""
    with client_of(daemon) as client:
        return [client.start(["sleep", "100000"]) for _ in range(count)]


def median(settings: Settings, measure: Callable[[], float], warm_up: bool = True) -> float:
    """Return the median of several runs; the first, which also fills caches, is not counted."""
    if warm_up:
        measure()
    return statistics.median(measure() for _ in range(settings.runs))


def timed(argv: Sequence[str], stdout: str = os.devnull) -> float:
    """Run a command to its end by the cheapest call there is, and return how many seconds that took."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [(os.POSIX_SPAWN_OPEN, 1, stdout, flags, 0o600), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    began = time.perf_counter()
    pid = os.posix_spawnp(argv[0], list(argv), os.environ, file_actions=actions)
    status = os.waitpid(pid, 0)[1]
    took = time.perf_counter() - began
    assert status == 0, f"{argv} ended with wait status {status}"
    return took


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return how long all threads of these processes have been on a processor, to the nanosecond."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9
