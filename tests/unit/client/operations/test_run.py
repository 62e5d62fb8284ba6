"""Client.run: start, follow, send input and wait in one. Runs in: pytest."""

import io
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from levity import Client, Completed, LogChunk, State
from levity.errors import (
    IncompleteLog,
    InvalidRequest,
    LevityError,
    ServerUnreachable,
    UnknownTask,
)
from levity.protocol.frames import STDERR, STDOUT
from tests.support.deadline import eventually
from tests.support.fake_clock import FakeClock
from tests.support.fake_server import ID, FakeServer, Peer, answering, record
from tests.support.fake_task import FakeTask

TIMEOUT_S = 20.0


LOG = [(STDOUT, b"one\n"), (STDERR, b"bad\n"), (STDOUT, b"two\n")]


def test_run_gives_the_record_and_the_output() -> None:
    with FakeServer(FakeTask(LOG, exit_code=3)) as server, Client(server.address, TIMEOUT_S) as client:
        done = client.run(["make"], cwd="/srv", env={"A": "b"}, grace_s=1, merged=True, log_cap=0)
    assert isinstance(done, Completed)
    assert (done.stdout, done.stderr, done.exit_code) == (b"one\ntwo\n", b"bad\n", 3)
    assert done.record.state is State.FINISHED
    assert repr(done) == f"<Completed {done.record.id} Finished 3, 8 and 4 B>"
    start = server.requests[0].params
    assert start["id"] == done.record.id
    assert (start["argv"], start["cwd"], start["env"], start["grace_s"]) == (["make"], "/srv", {"A": "b"}, 1)
    assert (start["merged"], start["log_cap"], "stdin" in start) == (True, 0, False)
    assert server.requests[1].params["follow"] is True


def test_run_hands_chunks_on() -> None:
    got: list[LogChunk] = []
    with FakeServer(FakeTask(LOG)) as server, Client(server.address, TIMEOUT_S) as client:
        done = client.run(["make"], task_id=ID, output=got.append)
    assert [chunk.data for chunk in got] == [b"one\n", b"bad\n", b"two\n"]
    assert (done.stdout, done.stderr, done.record.id) == (b"", b"", ID)


def test_run_goes_on_over_broken_connections() -> None:
    fake = FakeTask(LOG, breaks=[0, 20, 140, 160, 200])
    with FakeServer(fake) as server, Client(server.address, TIMEOUT_S) as client:
        client.clock = FakeClock()
        done = client.run(["make"])
    assert (done.stdout, done.stderr) == (b"one\ntwo\n", b"bad\n")


@pytest.mark.parametrize("source", [pytest.param(b"x" * 700_000, id="several chunks"), pytest.param(b"", id="no byte")])
def test_run_feeds_the_task_while_it_follows(source: bytes) -> None:
    fake = FakeTask(LOG, ends_on="input")
    with FakeServer(fake) as server, Client(server.address, TIMEOUT_S) as client:
        done = client.run(["cat"], stdin=source)
    assert done.stdout == b"one\ntwo\n"
    assert fake.input == source
    assert server.requests[0].params["stdin"] is True
    assert {request.params.get("limit_bytes", 16 << 20) for request in server.requests} == {16 << 20}


def test_run_does_not_wait_for_input_that_the_task_does_not_read() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as file, FakeServer(FakeTask(LOG)) as server:
        with Client(server.address, TIMEOUT_S) as client:
            # Nothing ever comes from this pipe while the task runs.
            assert client.run(["true"], stdin=file).stdout == b"one\ntwo\n"
        # So that the thread that reads the pipe ends.
        os.close(writer)


def test_run_stops_input_that_waits_for_room() -> None:
    fake = FakeTask(LOG, ends_on="room")

    def no_room(peer: Peer, _: object) -> None:
        fake.over.set()
        peer.wait_gone()

    fake.task_stdin = no_room  # type: ignore[assignment, method-assign]
    with FakeServer(fake) as server, Client(server.address, TIMEOUT_S) as client:
        assert client.run(["true"], stdin=b"x").stdout == b"one\ntwo\n"
        eventually(lambda: not [one for one in threading.enumerate() if one.name.startswith("stdin of")], "its thread")


def broken_file() -> Iterator[tuple[Any, type[BaseException]]]:
    closed = io.BytesIO()
    closed.close()
    yield closed, ValueError
    yield "text", InvalidRequest
    directory = os.open("/", os.O_RDONLY)

    class Directory:
        def read(self, _: int) -> bytes:
            return os.read(directory, 1)

        def __del__(self) -> None:
            os.close(directory)

    yield Directory(), IsADirectoryError


@pytest.mark.parametrize("number", range(3))
def test_run_tells_why_its_input_failed(number: int) -> None:
    source, error = list(broken_file())[number]
    with FakeServer(FakeTask(LOG, ends_on="signal")) as server, Client(server.address, TIMEOUT_S) as client:
        with pytest.raises(error):
            client.run(["cat"], stdin=source)
        # So that the script, which still waits, ends.
        client.signal(ID)


def test_run_fails_as_its_parts_do() -> None:
    refuses = FakeServer(answering(UnknownTask("no")))
    with refuses as server, Client(server.address) as client, pytest.raises(UnknownTask):
        client.run(["true"])
    with Client(server.address) as client, pytest.raises(ServerUnreachable):
        client.run(["true"])

    def short(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        if request.method == "task.logs":
            peer.begin()
            peer.reply(request, {"stdout": 1, "stderr": 0})
        peer.reply(request, record())
        peer.wait_gone()

    with FakeServer(short) as server, Client(server.address) as client, pytest.raises(IncompleteLog):
        client.run(["true"])


def test_an_output_that_raises_ends_it() -> None:
    def refuse(_: LogChunk) -> None:
        raise ZeroDivisionError

    with FakeServer(FakeTask(LOG)) as server, Client(server.address) as client, pytest.raises(ZeroDivisionError):
        client.run(["true"], stdin=b"x", output=refuse)


def test_abort_wakes_a_request_of_another_thread() -> None:
    def silent(peer: Peer) -> None:
        peer.hello()
        peer.request()
        client.abort()
        peer.wait_gone()

    with FakeServer(silent) as server, Client(server.address, TIMEOUT_S) as client:
        for _ in range(2):
            with pytest.raises(LevityError):
                client.query("x")
        assert server.connections <= 2
