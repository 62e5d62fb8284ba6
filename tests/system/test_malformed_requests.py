"""Whatever comes over the socket: a reply, an error or a close, and the daemon goes on."""

import os
import random
import socket
import struct
from collections.abc import Iterator

import psutil
import pytest

from levity.errors import InvalidRequest, UnknownTask
from levity.protocol.frames import FRAME_LIMIT, json_frame
from levity.protocol.messages import request_frame
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.raw import Raw
from tests.support.tasks import client_of, ended, sh

INFO = request_frame(1, "server.info", {})


@pytest.fixture
def healthy(tcp_daemon: Daemon) -> Iterator[Daemon]:
    """See that the very same front-end and engine go on, that they hold nothing more, and said nothing bad."""
    pids = {role: tcp_daemon.pid_of(role) for role in ("front-end", "engine")}
    frontend = psutil.Process(pids["front-end"])
    with client_of(tcp_daemon.address) as client:
        client.info()
    eventually(lambda: frontend.num_threads() <= 3, "the threads of earlier tests to end")
    descriptors = frontend.num_fds()
    yield tcp_daemon
    with client_of(tcp_daemon.address) as client:
        assert ended(client, sh(client, "exit 3")).exit_code == 3
    assert {role: tcp_daemon.pid_of(role) for role in pids} == pids
    eventually(lambda: frontend.num_threads() <= 3 and frontend.num_fds() <= descriptors, "connections to be dropped")
    assert "Traceback" not in tcp_daemon.stderr_text()
    assert "Error" not in tcp_daemon.stderr_text(), tcp_daemon.stderr_text()


OTHER_PROTOCOLS = {
    "http get": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "http post with a frame in it": b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n" + INFO,
    "http put": b"PUT /x HTTP/1.1\r\n\r\n",
    "http options": b"OPTIONS * HTTP/1.1\r\n\r\n",
    "http connect": b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": bytes.fromhex("160301020001000001fc0303") + bytes(400),
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "a huge length": b"\xff\xff\xff\xff\x00",
    "just over the limit": struct.pack(">I", FRAME_LIMIT + 1) + b"\x00",
    "no length": bytes(64),
    "an unknown kind": struct.pack(">IB", 10, 7) + bytes(9),
    "output": struct.pack(">IBQ", 12, 1, 0) + b"abc",
    "output without its time": struct.pack(">IB", 3, 1) + b"ab",
}


@pytest.mark.parametrize("known", [True, False], ids=["known", "unauthenticated"])
@pytest.mark.parametrize("name", OTHER_PROTOCOLS)
def test_another_protocol_is_dropped(healthy: Daemon, name: str, known: bool) -> None:
    with Raw(healthy, known=known) as raw:
        raw.send(OTHER_PROTOCOLS[name])
        raw.check_refused()


def _info_with(value: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"server.info","params":{"x":' + value + b"}}"


def test_no_depth_of_nesting_separates_front_end_and_engine(healthy: Daemon) -> None:
    # Between what the parser bears in the one and in the other, whose stack is deeper.
    for depth in range(940, 1000):
        with Raw(healthy) as raw:
            raw.send(json_frame(_info_with(b"[" * depth + b"]" * depth)))
            raw.check_refused()


def _filled(start: bytes, end: bytes, filling: bytes) -> bytes:
    """Return a frame of the largest size there is."""
    room = FRAME_LIMIT - 1 - len(start) - len(end)
    return json_frame(start + filling * (room // len(filling)) + b" " * (room % len(filling)) + end)


INFO_START, INFO_END = _info_with(b'"|"').split(b"|")
# In levityd's own JSON it is three times as long.
GROWING = "\u00e9".encode()


@pytest.mark.parametrize("filling", [b"x", GROWING], ids=["that stays as it is", "that grows in ascii"])
def test_a_request_of_the_largest_size_is_served(healthy: Daemon, filling: bytes) -> None:
    with Raw(healthy) as raw:
        raw.send(_filled(INFO_START, INFO_END, filling) + INFO)
        assert raw.reply()["result"]["pid"] == healthy.pid
        assert raw.reply()["result"]["pid"] == healthy.pid


def _large(method: str, params: str) -> tuple[bytes, bytes]:
    """Return what goes before and behind a large text in parameters; `|` stands for it."""
    message = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}'
    start, end = message.encode().split(b"|")
    return start, end


TASK_ID = "aaaaaaaa-0000-4000-8000-000000000000"
TOO_LARGE = {
    # The answer would hold it, and so would that of each query.
    "start with an environment": _large("task.start", f'{{"id":"{TASK_ID}","argv":["true"],"env":{{"X":"|"}}}}'),
    "start with an argument": _large("task.start", f'{{"id":"{TASK_ID}","argv":["true","|"]}}'),
    # What the front-end asks of the engine then would hold it.
    "wait": _large("task.wait", '{"ids":["|"]}'),
    "logs": _large("task.logs", '{"id":"|"}'),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_request_that_would_grow_beyond_a_frame_is_refused_and_not_done(healthy: Daemon, name: str) -> None:
    with Raw(healthy) as raw:
        raw.send(_filled(*TOO_LARGE[name], GROWING) + INFO)
        reply = raw.reply()
        assert (reply["id"], reply["error"]["code"]) == (1, InvalidRequest.code)
        assert "too long" in reply["error"]["message"]
        assert raw.reply()["result"]["pid"] == healthy.pid
        raw.send(request_frame(2, "task.query", {"id": TASK_ID}))
        assert raw.reply()["error"]["code"] == UnknownTask.code
    assert not (healthy.state_dir / "tasks" / TASK_ID).exists()


@pytest.mark.parametrize("filling", [b"x", GROWING], ids=["that stays as it is", "that grows in ascii"])
@pytest.mark.parametrize("method", ["server.info", "task.query", "task.wait", "task.logs", "no.such"])
def test_an_answer_that_no_frame_holds_is_an_error(healthy: Daemon, method: str, filling: bytes) -> None:
    """A reply repeats the request's id."""
    start, end = f'{{"jsonrpc":"2.0","method":"{method}","params":{{}},"id":"|"}}'.encode().split(b"|")
    with Raw(healthy) as raw:
        raw.send(_filled(start, end, filling) + INFO)
        reply = raw.reply()
        assert reply["id"] is None
        assert "\n" not in reply["error"]["message"]
        assert raw.reply()["result"]["pid"] == healthy.pid


MESSAGES = {
    "no json": b"hello",
    "no object": b"[1, 2]",
    "a number": b"17",
    "an empty body": b"",
    "not utf-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
    "a key twice": b'{"jsonrpc":"2.0","id":1,"id":2,"method":"server.info"}',
    "nan": b'{"jsonrpc":"2.0","id":1,"method":"server.info","params":{"x":NaN}}',
    "infinity": b'{"jsonrpc":"2.0","id":1,"method":"server.info","params":{"x":1e999}}',
    "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a long number": b'{"jsonrpc":"2.0","id":' + b"1" * 5000 + b',"method":"server.info"}',
    "trailing bytes": b'{"jsonrpc":"2.0","id":1,"method":"server.info"} x',
    "no version": b'{"id":1,"method":"server.info"}',
    "a list of parameters": b'{"jsonrpc":"2.0","id":1,"method":"server.info","params":[]}',
    "a strange id": b'{"jsonrpc":"2.0","id":{},"method":"server.info"}',
    "an unknown method": b'{"jsonrpc":"2.0","id":1,"method":"__class__.__init__"}',
    "a private method": b'{"jsonrpc":"2.0","id":1,"method":"_start"}',
    "a lone surrogate": b'{"jsonrpc":"2.0","id":1,"method":"task.start","params":{"id":'
    b'"aaaaaaaa-0000-4000-8000-000000000000","argv":["\\ud800"]}}',
    "a path for an id": b'{"jsonrpc":"2.0","id":1,"method":"task.start","params":{"id":"../../../x","argv":["true"]}}',
    "an id that is a list": b'{"jsonrpc":"2.0","id":1,"method":"task.query","params":{"id":["a"]}}',
    "logs of nothing": b'{"jsonrpc":"2.0","id":1,"method":"task.logs","params":{}}',
    "a page of nonsense": b'{"jsonrpc":"2.0","id":1,"method":"task.list","params":{"limit":"x","after":-1}}',
    "an enormous cursor": b'{"jsonrpc":"2.0","id":1,"method":"task.list","params":{"after":1'
    + b"0" * 300
    + b',"limit":-5}}',
    "a negative grace": b'{"jsonrpc":"2.0","id":1,"method":"task.signal","params":{"id":"a","grace_s":-1}}',
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_bad_message_is_answered_with_an_error(healthy: Daemon, name: str) -> None:
    with Raw(healthy) as raw:
        raw.send(json_frame(MESSAGES[name]))
        raw.sock.shutdown(socket.SHUT_WR)
        assert "error" in (answer := raw.reply()), answer
        assert "\n" not in answer["error"]["message"]


def test_a_request_is_answered_although_the_client_has_closed_its_side(healthy: Daemon) -> None:
    with Raw(healthy) as raw:
        raw.send(INFO)
        raw.sock.shutdown(socket.SHUT_WR)
        assert raw.reply()["result"]["pid"] == healthy.pid
        assert raw.reply() == {}


def test_requests_byte_by_byte_and_all_at_once_are_the_same(healthy: Daemon) -> None:
    with Raw(healthy) as raw:
        for byte in INFO:
            raw.send(bytes((byte,)))
        assert raw.reply()["id"] == 1
        raw.send(b"".join(request_frame(number, "server.info", {}) for number in range(50)))
        assert [raw.reply()["id"] for _ in range(50)] == list(range(50))


def test_clients_that_reset_the_connection_at_any_moment(healthy: Daemon) -> None:
    with client_of(healthy.address) as client:
        task_id = client.start(["/bin/sh", "-c", "seq 100000"])
        ended(client, task_id)
    logs = request_frame(1, "task.logs", {"id": task_id})
    for cut in (0, 1, 4, 5, len(INFO) - 1, len(INFO)):
        for frame in (INFO, logs):
            with Raw(healthy) as raw:
                raw.send(frame[:cut])
                raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_reader_that_takes_nothing_does_not_slow_the_others(healthy: Daemon) -> None:
    with client_of(healthy.address) as client:
        task_id = client.start(["/bin/sh", "-c", "head -c 20000000 /dev/zero"])
        ended(client, task_id)
        with Raw(healthy) as raw:
            raw.send(request_frame(1, "task.logs", {"id": task_id}))
            for _ in range(20):
                client.info()


def test_noise_and_requests_with_flipped_bits(healthy: Daemon) -> None:
    seed = int(os.environ.get("LEVITY_GARBAGE_SEED") or random.randrange(10**6))
    print(f"LEVITY_GARBAGE_SEED={seed}")
    chance = random.Random(seed)
    # Longer than what the id of a task here begins with by chance.
    query = request_frame(1, "task.query", {"id": "0123456789abcdef"})
    for turn in range(150):
        data = bytearray(chance.randbytes(chance.randrange(1, 2000)) if turn % 3 == 0 else query * 3)
        for _flip in range(chance.randrange(4)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with Raw(healthy) as raw:
            raw.send(bytes(data))
            raw.sock.shutdown(socket.SHUT_WR)
            raw.check_refused()


def test_large_requests_cost_memory_only_while_they_last(healthy: Daemon) -> None:
    with Raw(healthy) as raw:
        raw.send(request_frame(1, "task.query", {"id": "x" * 15_000_000}))
        assert "error" in raw.reply()
    with Raw(healthy) as raw:
        raw.send(struct.pack(">IB", FRAME_LIMIT, 0) + b"x" * 1000)
    eventually(lambda: psutil.Process(healthy.pid_of("front-end")).memory_info().rss < 400e6, "memory to be given back")


def test_a_client_that_sends_nothing_or_never_finishes_is_dropped(healthy: Daemon) -> None:
    """Ten seconds for a first request, also where it comes a byte at a time."""
    with Raw(healthy) as silent, Raw(healthy) as slow:
        silent.sock.settimeout(20)
        slow.sock.settimeout(1)
        sent = 0

        def dropped() -> bool:
            nonlocal sent
            try:
                slow.sock.sendall(INFO[sent : sent + 1])
                sent = min(sent + 1, len(INFO) - 2)
                return slow.sock.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        eventually(dropped, "the slow one to be dropped", 20)
        assert silent.reply() == {}
