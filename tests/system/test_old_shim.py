"""A task that a shim of commit e66b08c watches, under this engine: adopted, asked in its own words, seen to its end."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from levity import State
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.paths import ROOT
from tests.support.tasks import client_of, ended, send

PROGRAM = ROOT / "tests" / "support" / "old_shim.py"


@contextmanager
def old_task(daemon: Daemon, *argv: str) -> Iterator[tuple[str, Path]]:
    """Have an old shim start a task in the state directory of a levityd that is not running; its id and directory."""
    task_id = str(uuid.uuid4())
    directory = daemon.state_dir / "tasks" / task_id
    shim = subprocess.Popen([sys.executable, str(PROGRAM), str(directory), *argv])
    try:
        eventually((directory / "shim.json").exists, "the old shim to start its task")
        yield task_id, directory
        shim.wait(20)
    finally:
        shim.kill()
        shim.wait()


def heard(directory: Path) -> list[Any]:
    """Return what the old shim was told."""
    return [json.loads(line) for line in (directory / "heard").read_text().splitlines()]


def test_an_old_shim_is_asked_in_its_own_words_and_nothing_else(daemon: Daemon) -> None:
    daemon.stop()
    with old_task(daemon, "sleep", "600") as (task_id, directory):
        daemon.restart()
        with client_of(daemon.address) as client:
            assert client.query(task_id).state is State.RUNNING
            # Input is announced to it, and does not end its task.
            send(client, task_id, b"abc")
            eventually(lambda: heard(directory) == [{"stdin": True}], "what it is told of input")
            assert client.query(task_id).state is State.RUNNING
            client.signal(task_id, grace_s=7)
            record = ended(client, task_id)
            assert (record.state, record.exit_code, record.signal) == (State.FINISHED, 143, "SIGTERM")
            assert heard(directory) == [{"stdin": True}, {"grace_s": 7}]


def test_an_old_shim_whose_engine_is_killed_is_found_again_and_ends_its_task(daemon: Daemon) -> None:
    daemon.stop()
    with old_task(daemon, "sleep", "600") as (task_id, directory):
        daemon.restart()
        with client_of(daemon.address) as client:
            assert client.query(task_id).state is State.RUNNING
            daemon.kill("engine")
            client.signal(task_id)
            assert ended(client, task_id).exit_code == 143
            assert heard(directory) == [{}]
