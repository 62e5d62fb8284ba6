"""What tests of levityd's own commands have in common, and those of a front-end that was taken over."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from levity.states import State
from tests.support.daemon import Daemon
from tests.support.impostor import weak_command
from tests.support.launch import Run, run_levityd
from tests.support.tasks import client_of, ended, sh


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def levityd(place: Path) -> Run:
    """Run a levityd command on that state directory."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_levityd(*arguments, "--state-dir", str(place))

    return run


@pytest.fixture(scope="module")
def weak() -> Iterator[Daemon]:
    """A levityd whose front-ends can be `taken_over`."""
    one = Daemon(command=weak_command())
    try:
        yield one.start()
    finally:
        one.end()


@pytest.fixture
def unharmed(weak: Daemon) -> Iterator[Daemon]:
    """See that arbiter, engine and tasks are the same afterwards, that nothing new ran, and that clients get in."""
    pids = {role: weak.pid_of(role) for role in ("arbiter", "engine", "zygote")}
    with client_of(weak.address) as client:
        task_id = sh(client, "exec sleep 600")
        ids = {record.id for record in client.list()}
        yield weak
        record = client.query(task_id)
        assert record.state is State.RUNNING
        assert {record.id for record in client.list()} == ids
        assert ended(client, sh(client, "exit 3")).exit_code == 3
        client.signal(task_id)
        ended(client, task_id)
    assert {role: weak.pid_of(role) for role in pids} == pids
    assert "Traceback" not in weak.stderr_text()
    assert "Error" not in weak.stderr_text(), weak.stderr_text()
