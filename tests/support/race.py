"""A pytest plugin that brings races out. Runs in: pytest, when LEVITY_RACE=1. Owns: the tormentor thread.

It makes both pytest and levityd change threads every microsecond, runs the tests in random order, those marked `race`
many times, and stops random levityd processes for 1 to 50 ms at random times. LEVITY_RACE_SEED repeats an order,
LEVITY_RACE_ROUNDS sets how many times.
"""

import os
import random
import signal
import sys
import threading

import psutil
import pytest

from tests.support import processes
from tests.support.daemon import LIVE

__all__ = ["Tormentor", "pytest_collection_modifyitems", "pytest_configure", "pytest_generate_tests"]

SWITCH_INTERVAL_S = "1e-6"
ROUNDS = 10
STOP_S = (0.001, 0.050)
PAUSE_S = (0.0, 0.100)


def is_on() -> bool:
    """Whether this run is to bring races out."""
    return os.environ.get("LEVITY_RACE") == "1"


class Tormentor:
    """Stops and continues random processes of the daemons that run, until `end`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tormentor", daemon=True)
        self.stops = 0

    def start(self) -> None:
        """Begin; ends with `end`, or with the process."""
        self._thread.start()

    def end(self) -> None:
        """Return once every process that was stopped goes on."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._random.uniform(*PAUSE_S)):
            candidates = [pid for daemon in tuple(LIVE) for pids in daemon.pids().values() for pid in pids]
            if candidates:
                self._stop_for_a_while(self._random.choice(candidates))

    def _stop_for_a_while(self, pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            # Only now is it certain that no signal reaches another process with the same pid.
            if processes.title(psutil.Process(pid)).startswith("levityd:"):
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
                self._over.wait(self._random.uniform(*STOP_S))
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
                self.stops += 1
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass  # It ended meanwhile.
        finally:
            os.close(pidfd)


_tormentor: Tormentor | None = None


def pytest_configure() -> None:
    """Set the stage, before anything is collected and before pytest-xdist starts its workers (they inherit it)."""
    if is_on():
        os.environ.setdefault("LEVITY_RACE_SEED", str(random.randrange(10**9)))
        os.environ["LEVITY_SWITCH_INTERVAL"] = SWITCH_INTERVAL_S


def pytest_report_header() -> list[str]:
    """Print the seed that repeats this order."""
    return [f"races: LEVITY_RACE_SEED={os.environ['LEVITY_RACE_SEED']}"] if is_on() else []


def pytest_sessionstart() -> None:
    """Start tormenting."""
    global _tormentor  # noqa: PLW0603 - pytest's hooks have no object to keep it in
    if is_on():
        sys.setswitchinterval(float(SWITCH_INTERVAL_S))
        _tormentor = Tormentor(int(os.environ["LEVITY_RACE_SEED"]))
        _tormentor.start()


def pytest_sessionfinish() -> None:
    """Continue the processes that were stopped."""
    if _tormentor is not None:
        _tormentor.end()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much of it there was: a run without one stop proves little."""
    if _tormentor is not None:
        terminalreporter.write_line(f"races: levityd processes were stopped {_tormentor.stops} times")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test marked `race` several times."""
    if is_on() and metafunc.definition.get_closest_marker("race"):
        metafunc.fixturenames.append("race_round")
        rounds = int(os.environ.get("LEVITY_RACE_ROUNDS") or ROUNDS)
        metafunc.parametrize("race_round", range(rounds), indirect=True)


@pytest.fixture
def race_round(request: pytest.FixtureRequest) -> int:
    """The how-manieth time this test is run."""
    return int(request.param)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle the modules and the tests of each; all in one heap would make a new shared daemon for every test."""
    if not is_on():
        return
    shuffle = random.Random(int(os.environ["LEVITY_RACE_SEED"])).shuffle
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    names = list(modules)
    shuffle(names)
    for name in names:
        shuffle(modules[name])
    items[:] = [item for name in names for item in modules[name]]
