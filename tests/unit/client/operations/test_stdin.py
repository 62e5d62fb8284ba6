"""Client.write_stdin: every byte of a task's input, once. Runs in: pytest."""

import base64
import io
import os
from collections.abc import Callable
from typing import Any

import pytest

from levity import Client
from levity.errors import (
    InvalidRequest,
    ProtocolError,
)
from tests.support.fake_clock import FakeClock
from tests.support.fake_server import FakeServer, Peer, answering
from tests.support.fake_task import FakeTask

TIMEOUT_S = 20.0


class Slowly(io.RawIOBase):
    """A file that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        byte, self._data = self._data[:1], self._data[1:]
        return byte


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda data: data, id="bytes"),
        pytest.param(bytearray, id="a bytearray"),
        pytest.param(memoryview, id="a memoryview"),
        pytest.param(io.BytesIO, id="a file in memory"),
        pytest.param(lambda data: io.BufferedReader(io.BytesIO(data)), id="a buffered file"),
        pytest.param(lambda data: Slowly(data[:50] + data[-50:]), id="a file that gives a byte at a time"),
    ],
)
def test_input_is_sent_in_chunks_to_its_end(source: Callable[[bytes], Any]) -> None:
    data = os.urandom(600_000)
    fake = FakeTask(ends_on="input")
    with FakeServer(fake) as server, Client(server.address, TIMEOUT_S) as client:
        taken = client.write_stdin("3f2a", source(data), limit_bytes=5)
    assert fake.input in (data, data[:50] + data[-50:])
    assert taken == len(fake.input)
    assert [request.params["end"] for request in server.requests] == [False] * (len(server.requests) - 1) + [True]
    assert server.requests[0].params.keys() == {"id", "offset", "data", "end", "limit_bytes", "heartbeat_s"}
    assert {request.params["limit_bytes"] for request in server.requests} == {5}
    assert max(len(base64.b64decode(request.params["data"])) for request in server.requests) <= 256 * 1024


def test_no_input_is_an_end_at_once() -> None:
    fake = FakeTask(ends_on="input")
    with FakeServer(fake) as server, Client(server.address) as client:
        assert client.write_stdin("3f2a", b"") == 0
    assert [request.params["offset"] for request in server.requests] == [0]
    assert fake.input_ended.is_set()
    assert server.requests[0].params["limit_bytes"] is None


def test_input_is_sent_again_where_the_connection_breaks() -> None:
    data = os.urandom(1_000_000)
    fake = FakeTask(ends_on="input")

    def breaks(peer: Peer) -> None:
        """Every second chunk is stored, but its reply is lost; the others are lost themselves."""
        peer.hello()
        request = peer.request()
        if peer.number % 2:
            fake.task_stdin(peer, request)
            peer.request()
        else:
            raw = base64.b64decode(request.params["data"])
            fake.input = fake.input[: request.params["offset"]] + raw

    def serve(peer: Peer) -> None:
        (breaks if peer.number < 8 else fake)(peer)

    with FakeServer(serve) as server, Client(server.address, TIMEOUT_S) as client:
        client.clock = FakeClock()
        assert client.write_stdin("3f2a", data) == len(data)
    assert fake.input == data


def test_input_that_is_not_read_to_its_end() -> None:
    fake = FakeTask(reads=300_000, ends_on="closed")
    with FakeServer(fake) as server, Client(server.address) as client:
        assert client.write_stdin("3f2a", b"x" * 10_000_000) == 256 * 1024
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param({"stored": 3, "closed": True, "over": False}, id="the task closed its input"),
        pytest.param({"stored": 3, "over": True}, id="the task is over"),
    ],
)
def test_input_ends_when_the_task_reads_no_more(reply: dict[str, Any]) -> None:
    with FakeServer(answering(reply)) as server, Client(server.address) as client:
        assert client.write_stdin("3f2a", b"abcdef") == 3
    assert len(server.requests) == 1


def test_a_chunk_that_is_taken_in_parts() -> None:
    script = answering({"stored": 2}, {"stored": 5}, {"stored": 6}, {"stored": 6})
    with FakeServer(script) as server, Client(server.address) as client:
        assert client.write_stdin("3f2a", b"abcdef") == 6
    sent = [(request.params["offset"], base64.b64decode(request.params["data"])) for request in server.requests]
    assert sent == [(0, b"abcdef"), (2, b"cdef"), (5, b"f"), (6, b"")]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param({}, id="empty"),
        pytest.param({"stored": None}, id="stored is null"),
        pytest.param({"stored": True}, id="stored is a boolean"),
        pytest.param({"stored": 0}, id="none of the chunk is taken"),
    ],
)
def test_a_reply_to_input_that_makes_no_sense(reply: dict[str, Any]) -> None:
    with FakeServer(answering(reply)) as server, Client(server.address) as client, pytest.raises(ProtocolError):
        client.write_stdin("3f2a", b"abc")


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("text", id="text"),
        pytest.param(5, id="a number"),
        pytest.param(None, id="nothing"),
        pytest.param(io.StringIO("text"), id="a file in text mode"),
    ],
)
def test_a_value_that_is_no_input(source: Any) -> None:
    with (
        FakeServer(FakeTask()) as server,
        Client(server.address) as client,
        pytest.raises(InvalidRequest, match="the input is to be bytes"),
    ):
        client.write_stdin("3f2a", source)
    with pytest.raises(InvalidRequest, match="no task id"):
        Client("127.0.0.1:1").write_stdin("", b"")


def test_input_from_a_pipe_that_does_not_block() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    fake = FakeTask(ends_on="input")

    class Pipe(io.FileIO):
        def read(self, size: int | None = -1) -> bytes | None:  # type: ignore[override]
            chunk: bytes | None = super().read(size)
            if chunk is None:
                # What the writer waits for.
                os.write(writer, b"abc")
                os.close(writer)
            return chunk

    with Pipe(reader, "rb") as file, FakeServer(fake) as server, Client(server.address) as client:
        assert client.write_stdin("3f2a", file) == 3
    assert fake.input == b"abc"
