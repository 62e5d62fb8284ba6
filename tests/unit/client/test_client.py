"""The client's requests, and what it makes of the answers. Runs in: pytest."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import levity
from levity import Client, State, TaskRecord
from levity.errors import (
    BadAddress,
    CommandNotFound,
    InvalidRequest,
    LevityError,
    NotExecutable,
    ProtocolError,
    UnknownTask,
)
from tests.support.fake_server import FakeServer, answering, record

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A levityd that answers every request with one task's record."""
    with FakeServer(answering(record())) as fake:
        yield fake


def test_start_sends_what_was_asked_and_returns_the_id(server: FakeServer) -> None:
    with Client(server.address) as client:
        assert client.start(["ls", "-l"], cwd="/tmp", env={"A": "b=c"}, grace_s=2.5) == record()["id"]
    (request,) = server.requests
    assert request.method == "task.start"
    params = request.params
    assert UUID4.fullmatch(params.pop("id"))
    assert params == {"argv": ["ls", "-l"], "cwd": "/tmp", "env": {"A": "b=c"}, "grace_s": 2.5}


def test_start_needs_a_command_only(server: FakeServer) -> None:
    with Client(server.address) as client:
        client.start(("true",))
        client.start(["true"], task_id="own")
    first, second = (request.params for request in server.requests)
    assert first.pop("id") != second.pop("id") == "own"
    assert first == second == {"argv": ["true"], "cwd": None, "env": {}}


def test_a_task_for_another_user(server: FakeServer) -> None:
    with Client(server.address) as client:
        client.start(["true"], user="bob")
        assert client.submit(["true"], user="bob").raw == record()
    assert [request.params["user"] for request in server.requests] == ["bob", "bob"]


def test_a_record_says_whose_task_it_is() -> None:
    answers = answering(record(), record(owner="alice", user="bob"))
    with FakeServer(answers) as server, Client(server.address) as client:
        assert [(task.owner, task.user) for task in (client.query("3f2a"), client.query("3f2a"))] == [
            (None, None),
            ("alice", "bob"),
        ]


def test_every_byte_reaches_the_host(server: FakeServer) -> None:
    raw = bytes(range(1, 256))
    name = raw.replace(b"=", b"")
    with Client(server.address) as client:
        client.start([b"echo", raw], cwd=b"/" + raw, env={name: raw})
        client.start(["echo", os.fsdecode(raw)], cwd=Path(os.fsdecode(b"/" + raw)), env={os.fsdecode(name): raw})
    wire = raw.decode("utf-8", "surrogateescape")
    for request in server.requests:
        assert request.params["argv"] == ["echo", wire]
        assert request.params["cwd"] == "/" + wire
        assert request.params["env"] == {name.decode("utf-8", "surrogateescape"): wire}


NONSENSE = [
    pytest.param({"argv": []}, "the command is empty", id="no word"),
    pytest.param({"argv": [""]}, "the command is empty", id="an empty word"),
    pytest.param({"argv": "ls -l"}, "list of words", id="a command as text"),
    pytest.param({"argv": b"ls"}, "list of words", id="a command as bytes"),
    pytest.param({"argv": None}, "list of words", id="no command"),
    pytest.param({"argv": 5}, "list of words", id="a number as command"),
    pytest.param({"argv": ["ls", 5]}, "argument 1 is neither text nor bytes", id="a number as argument"),
    pytest.param({"argv": ["ls", "a\0b"]}, "argument 1 holds a NUL", id="an argument with a NUL"),
    pytest.param({"argv": ["ls", "\ud800"]}, "argument 1 is neither text nor bytes", id="an argument with a surrogate"),
    pytest.param({"argv": ["ls"], "cwd": "a\0b"}, "the working directory holds a NUL", id="a directory with a NUL"),
    pytest.param({"argv": ["ls"], "env": {"": "x"}}, "empty or holds '='", id="a variable without name"),
    pytest.param({"argv": ["ls"], "env": {"a=b": "x"}}, "empty or holds '='", id="a name with an equals sign"),
    pytest.param({"argv": ["ls"], "env": {"a\0b": "x"}}, "variable holds a NUL", id="a name with a NUL"),
    pytest.param({"argv": ["ls"], "env": {"a": "x\0"}}, "variable 'a' holds a NUL", id="a value with a NUL"),
    pytest.param({"argv": ["ls"], "env": {"a": None}}, "neither text nor bytes", id="a variable without value"),
    pytest.param({"argv": ["ls"], "env": ["a=b"]}, "to be a dict", id="an environment as list"),
    pytest.param({"argv": ["ls"], "grace_s": -1}, "grace period", id="a negative grace period"),
    pytest.param({"argv": ["ls"], "grace_s": float("nan")}, "grace period", id="a grace period that is not a number"),
    pytest.param({"argv": ["ls"], "grace_s": float("inf")}, "grace period", id="an infinite grace period"),
    pytest.param({"argv": ["ls"], "grace_s": "5"}, "grace period", id="a grace period as text"),
    pytest.param({"argv": ["ls"], "user": ""}, "no user's name", id="an empty user"),
    pytest.param({"argv": ["ls"], "user": "a\0b"}, "no user's name", id="a user with a NUL"),
    pytest.param({"argv": ["ls"], "user": 0}, "no user's name", id="a number as user"),
]


@pytest.mark.parametrize(("arguments", "why"), NONSENSE)
def test_a_command_that_no_host_could_run_is_refused_without_a_connection(arguments: dict[str, Any], why: str) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(InvalidRequest, match=why):
        client.start(**arguments)


def test_a_command_that_is_too_long_is_refused_without_a_connection() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(NotExecutable, match="too long"):
        client.start(["echo", "x" * 17_000_000])


def test_query_gives_the_record() -> None:
    ended = record(
        state="Finished", exit_code=143, signal="SIGTERM", reason="signalled by alice", cwd="/srv", env={"A": "\udcff"}
    )
    with FakeServer(answering(ended)) as server, Client(server.address) as client:
        task = client.query("3f2a")
    assert server.requests[0].params == {"id": "3f2a"}
    assert isinstance(task, TaskRecord)
    assert task.state is State.FINISHED
    assert task.state.is_end
    assert (task.exit_code, task.signal, task.reason) == (143, "SIGTERM", "signalled by alice")
    assert (task.argv, task.cwd, task.env) == (["sleep", "60"], "/srv", {"A": os.fsdecode(b"\xff")})
    assert (task.pid, task.shim_pid, task.grace_s) == (4711, 4710, 5.0)
    assert task.started_at == "2026-11-23T20:09:00.002000001Z"
    assert task.ended_at is None
    assert task.raw == ended
    assert repr(task) == "<TaskRecord 3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42 Finished>"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"state": "Paused"}, id="an unknown state"),
        pytest.param({"id": 5}, id="a number as id"),
        pytest.param({"argv": None}, id="no command"),
        pytest.param({"argv": [1]}, id="a number as argument"),
        pytest.param({"argv": ["\ud800"]}, id="an argument with a surrogate"),
        pytest.param({"env": []}, id="an environment as list"),
    ],
)
def test_a_record_that_makes_no_sense(changes: dict[str, Any]) -> None:
    raw = record(**changes)
    if changes == {"env": []}:
        raw["env"] = ["x"]
    with (
        FakeServer(answering(raw)) as server,
        Client(server.address) as client,
        pytest.raises(ProtocolError, match="no sense"),
    ):
        client.query("3f2a")


def test_signal(server: FakeServer) -> None:
    with Client(server.address) as client:
        assert client.signal("3f2a").id == record()["id"]
        client.signal("3f2a", grace_s=0)
        with pytest.raises(InvalidRequest):
            client.signal("3f2a", grace_s=-1)
    assert server.methods() == ["task.signal", "task.signal"]
    assert [request.params for request in server.requests] == [{"id": "3f2a"}, {"id": "3f2a", "grace_s": 0}]


def test_list_goes_through_all_pages() -> None:
    pages: list[dict[str, Any]] = [
        {"tasks": [record(id="a"), record(id="b")], "next": "b"},
        {"tasks": [], "next": "c"},
        {"tasks": [record(id="c")], "next": None},
    ]
    with FakeServer(answering(*pages)) as server, Client(server.address) as client:
        assert [task.id for task in client.list(all=True)] == ["a", "b", "c"]
    assert [request.params["after"] for request in server.requests] == [None, "b", "c"]
    assert all(request.params["all"] is True for request in server.requests)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param({}, id="empty"),
        pytest.param({"tasks": None}, id="null"),
        pytest.param({"tasks": [5], "next": None}, id="a number as task"),
        pytest.param({"tasks": {}}, id="an object"),
    ],
)
def test_a_page_that_makes_no_sense(page: dict[str, Any]) -> None:
    with FakeServer(answering(page)) as server, Client(server.address) as client, pytest.raises(ProtocolError):
        list(client.list())


def test_info() -> None:
    with FakeServer(answering({"version": "0.1.0", "live": 3})) as server, Client(server.address) as client:
        assert client.info() == {"version": "0.1.0", "live": 3}


def test_one_connection_for_all_requests_made_when_it_is_needed(server: FakeServer) -> None:
    client = Client(server.address)
    assert repr(client) == f"<Client {server.address} not connected>"
    with client:
        for _ in range(3):
            client.query("3f2a")
        assert repr(client) == f"<Client {server.address} connected>"
    assert server.connections == 1
    assert [request.id for request in server.requests] == [1, 2, 3]
    client.close()
    client.query("3f2a")
    assert server.connections == 2
    client.close()


def test_an_error_answers_one_request_and_the_connection_stays() -> None:
    script = answering(UnknownTask("no task 'x'"), CommandNotFound("no command 'lss'"), record())
    with FakeServer(script) as server, Client(server.address) as client:
        with pytest.raises(UnknownTask, match="no task 'x'"):
            client.query("x")
        with pytest.raises(CommandNotFound):
            client.start(["lss"])
        assert client.query("3f2a").state is State.RUNNING
    assert server.connections == 1


@pytest.mark.parametrize("task_id", ["", None, 5, b"3f2a"])
def test_an_id_that_is_none_is_refused_without_a_connection(task_id: Any) -> None:
    client = Client("127.0.0.1:1")
    for ask in (client.query, client.signal, client.logs):
        with pytest.raises(InvalidRequest, match="is no task id"):
            ask(task_id)


@pytest.mark.parametrize(
    "timeout",
    [
        pytest.param(0, id="zero"),
        pytest.param(-1, id="negative"),
        pytest.param(float("nan"), id="not a number"),
        pytest.param(float("inf"), id="infinite"),
        pytest.param(1e7, id="too long for a socket"),
        pytest.param("5", id="text"),
        pytest.param(None, id="none"),
    ],
)
def test_a_timeout_that_makes_no_sense(timeout: Any) -> None:
    with pytest.raises(InvalidRequest, match="timeout"):
        Client("127.0.0.1:1", timeout=timeout)


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadAddress):
        Client("")
    monkeypatch.setenv("LEVITY_ADDR", "127.0.0.1:7")
    assert str(Client().address) == "127.0.0.1:7"
    monkeypatch.delenv("LEVITY_ADDR")
    monkeypatch.setenv("LEVITY_STATE_DIR", str(tmp_path))
    assert str(Client().address) == f"unix:{tmp_path}/levity.sock"


def test_every_kind_of_address_is_reached(tmp_path: Path) -> None:
    for path, host in ((str(tmp_path / "s"), ""), ("", "::1"), ("", "127.0.0.1")):
        with FakeServer(answering(record()), path=path, host=host) as server:
            token_file = server.token_file if host else None
            with Client(server.address, token_file=token_file) as client:
                assert client.query("3f2a").id == record()["id"]


def test_a_host_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer(answering(record()), host="127.0.0.1") as server:
        monkeypatch.setenv("LEVITY_TOKEN_FILE", server.token_file)
        # With IPv6 the name has two addresses, and only the second answers.
        with Client(server.address.replace("127.0.0.1", "localhost")) as client:
            assert client.query("3f2a").id == record()["id"]


def test_the_package_gives_all_that_is_public() -> None:
    for name in levity.__all__:
        assert getattr(levity, name) is not None
    assert levity.__version__ == "0.1.0"
    assert set(levity.__all__) <= set(dir(levity))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        levity.nonsense  # type: ignore[attr-defined]  # noqa: B018
    assert issubclass(levity.ServerTimeout, LevityError)
