"""What a new flag of a task takes: a field and an option; it finds the rest of its way alone. Runs in: pytest."""

from pathlib import Path
from typing import Any

import pytest

from levity import Client
from levity.cli import start
from levity.cli.main import main
from levity.start_options import FIELDS, Flag, StartOptions
from levity.task import TaskRecord
from supervisor.engine.operations.params import check_start
from supervisor.engine.storage import task_directory as directory
from supervisor.engine.tasks.phase import Phase
from supervisor.engine.tasks.record import make_record
from supervisor.spool.records import Spec
from tests.support.fake_server import FakeServer, answering, record


@pytest.fixture(autouse=True)
def flag(monkeypatch: pytest.MonkeyPatch) -> Flag:
    """`urgent = Flag()` in StartOptions, and `TaskOption("urgent")` in the client's commands."""
    made = Flag()
    made.name = "urgent"
    monkeypatch.setitem(FIELDS, "urgent", made)
    monkeypatch.setattr(StartOptions, "urgent", made, raising=False)
    option = start.TaskOption("urgent")
    monkeypatch.setattr(start, "_TASK", (*start._TASK, option))
    monkeypatch.setattr(start, "OPTIONS", (*start.OPTIONS, option))
    return made


def asked(*words: str) -> dict[str, Any]:
    """Return what `levity start` sends."""
    with FakeServer(answering(record())) as server:
        assert main(["-a", server.address, "start", *words]) == 0
        (request,) = server.requests
    return request.params


@pytest.mark.parametrize("is_urgent", [True, False])
def test_it_travels_from_the_command_line_to_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: Flag, is_urgent: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    params = asked(*["--urgent"] * is_urgent, "ls")
    assert ("urgent" in params) == is_urgent  # An older levityd refuses what it does not know.
    task_id, options = check_start(params, 0)
    directory.create(task_id, Spec(task_id, options))
    assert f'"urgent": {str(is_urgent).lower()}' in (tmp_path / "tasks" / task_id / "spec.json").read_text()
    loaded = directory.load_spec(task_id)
    assert loaded is not None
    assert flag.__get__(loaded.options, StartOptions) is is_urgent  # `loaded.options.urgent`, for a type checker.
    assert TaskRecord(make_record(loaded, Phase.RUNNING, None)).raw["urgent"] is is_urgent
    # The same id with another value is another task.
    _same_id, others = check_start({**params, "urgent": not is_urgent}, 0)
    assert not loaded.options.asks_for_the_same(others)


def test_it_is_a_keyword_of_the_library() -> None:
    with FakeServer(answering(record())) as server, Client(server.address) as client:
        client.start(["ls"], urgent=True)  # type: ignore[call-arg]
        (request,) = server.requests
    assert request.params["urgent"] is True


def test_a_spec_that_was_written_before_says_no(flag: Flag) -> None:
    spec = Spec.from_json({"id": "a", "argv": [], "cwd": None, "env": {}, "grace_s": 5.0})
    assert spec is not None
    assert flag.__get__(spec.options, StartOptions) is False
