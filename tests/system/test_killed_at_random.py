"""Tens of SIGKILLs at random moments while clients start hundreds of tasks: all is exact, and nothing ran twice.

LEVITY_CRASH_SEED repeats the choice of whom and when (the moments themselves depend on the machine); it is printed.
LEVITY_CRASH_KILLS sets how many.
"""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from levity import Client
from levity.states import State
from tests.support.daemon import Daemon
from tests.support.tasks import client_of, ended, output, sh

KILLS = int(os.environ.get("LEVITY_CRASH_KILLS", "40"))
STARTERS = 3
LONGEST_PAUSE_S = 0.15


class Starter(threading.Thread):
    """A client that starts tasks until it is told to stop; each writes its number to a file, and to both streams."""

    def __init__(self, address: str | None, first: int, witness: Path) -> None:
        super().__init__()
        self.tasks: dict[int, str] = {}
        self.failure: BaseException | None = None
        self.over = threading.Event()
        self._address, self._next, self._witness = address, first, witness

    def run(self) -> None:
        try:
            with client_of(self._address) as client:
                while not self.over.is_set():
                    self._start(self._next, client)
                    self._next += STARTERS
        except BaseException as error:  # noqa: BLE001 - told in the test's thread
            self.failure = error

    def _start(self, number: int, client: Client) -> None:
        pause = f"sleep 0.{number % 3}; " if number % 5 == 0 else ""
        script = f"echo {number} >> {self._witness}; echo {number}; {pause}echo e{number} >&2; exit {number % 256}"
        self.tasks[number] = sh(client, script)


def kill_one(daemon: Daemon, role: str) -> None:
    if role == "all":
        daemon.kill_all()
        daemon.start()
    elif role == "arbiter":
        daemon.kill("arbiter")
        daemon.start()
    else:
        daemon.kill(role)


@pytest.mark.timeout(240)
def test_random_kills_lose_nothing_and_run_nothing_twice(daemon: Daemon, tmp_path: Path) -> None:
    seed = int(os.environ.get("LEVITY_CRASH_SEED") or random.randrange(10**6))
    print(f"LEVITY_CRASH_SEED={seed}")
    chance, witness = random.Random(seed), tmp_path / "runs"
    starters = [Starter(daemon.address, number, witness) for number in range(STARTERS)]
    for starter in starters:
        starter.start()
    try:
        for number in range(KILLS):
            if number % 4 == 0:
                # An engine that never gets as far as this is given up after five.
                with client_of(daemon.address) as client:
                    client.info()
            time.sleep(chance.uniform(0, LONGEST_PAUSE_S))  # Not waiting: the moment is what is tested.
            kill_one(daemon, chance.choice(("front-end", "engine", "engine", "zygote", "arbiter", "all")))
    finally:
        for starter in starters:
            starter.over.set()
        for starter in starters:
            starter.join()
    assert [starter.failure for starter in starters] == [None] * STARTERS
    tasks = {number: task_id for starter in starters for number, task_id in starter.tasks.items()}
    print(f"{len(tasks)} tasks, {KILLS} kills")
    assert len(set(tasks.values())) == len(tasks) >= KILLS
    with client_of(daemon.address) as client:
        for number, task_id in tasks.items():
            record = ended(client, task_id)
            assert (record.state, record.exit_code) == (State.FINISHED, number % 256), record.raw
            assert output(client, task_id) == (b"%d\n" % number, b"e%d\n" % number)
        listed = {record.id for record in client.list(all=True)}
    assert sorted(map(int, witness.read_text().split())) == sorted(tasks), "a task ran twice, or ran without a start"
    assert listed == set(tasks.values())
