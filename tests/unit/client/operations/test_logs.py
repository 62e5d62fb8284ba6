"""Logs: whole, in order, once, also over broken connections. Runs in: pytest."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levity import Client, LogChunk
from levity.errors import (
    IncompleteLog,
    LevityError,
    ProtocolError,
    ServerTimeout,
    ServerUnreachable,
    Unavailable,
    UnknownTask,
)
from levity.protocol.frames import STDERR, STDOUT
from levity.protocol.log_decoder import WHOLE_BYTES
from levity.transport.connection import SYSTEM_CLOCK, Clock
from tests.support.fake_clock import FakeClock
from tests.support.fake_server import ID, Entry, FakeServer, Peer, Script, answering, record, serving_log

TIMEOUT_S = 20.0


def read(server: FakeServer, timeout: float = TIMEOUT_S, clock: Clock = SYSTEM_CLOCK, **options: Any) -> list[LogChunk]:
    with Client(server.address, timeout) as client:
        client.clock = clock
        return list(client.logs("3f2a", **options))


def plain(chunks: list[LogChunk]) -> list[tuple[str, bytes]]:
    return [(stream, data) for stream, _, data in chunks]


def joined(chunks: list[LogChunk], name: str) -> bytes:
    """Return a stream with every dropped byte as a question mark."""
    return b"".join(chunk.data or b"?" * chunk.dropped for chunk in chunks if chunk.stream == name)


def test_both_streams_in_the_order_they_came() -> None:
    every = bytes(range(256))
    entries = [(STDOUT, b"one\n"), (STDERR, every), (STDOUT, b""), (STDOUT, b"two" * 10_000)]
    with FakeServer(serving_log(entries)) as server:
        chunks = read(server)
    assert plain(chunks) == [("stdout", b"one\n"), ("stderr", every), ("stdout", b"two" * 10_000)]
    assert {chunk.time_ns for chunk in chunks} == {1}
    assert {chunk.task_id for chunk in chunks} == {ID}
    assert server.requests[0].method == "task.logs"
    assert server.requests[0].params == {"id": "3f2a", "heartbeat_s": TIMEOUT_S / 3}


def test_an_empty_log() -> None:
    with FakeServer(serving_log([])) as server:
        assert read(server) == []


def test_a_large_frame_comes_in_pieces_that_are_all_of_it() -> None:
    data = bytes(range(256)) * 4096
    with FakeServer(serving_log([(STDOUT, data), (STDERR, b"end"), (STDOUT, data)])) as server:
        chunks = read(server)
    assert joined(chunks, "stdout") == data + data
    assert joined(chunks, "stderr") == b"end"
    assert max(len(chunk.data) for chunk in chunks) <= 256 * 1024


def test_it_goes_on_at_the_byte_where_it_stopped() -> None:
    entries: list[Entry] = [(STDOUT, b"abc"), (STDERR, b"12"), (STDOUT, 5), (STDOUT, b"def"), (STDERR, b"345")]
    breaks = [0, 30, 90, 120, 150, 160, 200]
    with FakeServer(*(serving_log(entries, at) for at in breaks), serving_log(entries)) as server:
        chunks = read(server, tail=10, since=5)
    assert joined(chunks, "stdout") == b"abc?????def"
    assert joined(chunks, "stderr") == b"12345"
    asked = [request.params for request in server.requests]
    assert len(asked) == len(breaks) + 1
    assert asked[0] == {"id": "3f2a", "heartbeat_s": TIMEOUT_S / 3, "tail": 10, "since_ns": 5 * 10**9}
    resumed = [params for params in asked if "from" in params]
    assert resumed[-1] == {"id": ID, "heartbeat_s": TIMEOUT_S / 3, "from": resumed[-1]["from"]}


logs = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.one_of(st.binary(max_size=30), st.integers(1, 20))), max_size=12
)
# Too much for one chunk, and no two pieces of it are the same.
LARGE = b"".join(number.to_bytes(4, "big") for number in range(WHOLE_BYTES // 2))


@settings(max_examples=60, deadline=None)
@given(logs, st.lists(st.integers(0, 1200), max_size=4))
def test_no_gap_and_no_repeat_wherever_it_breaks(log: list[Entry], breaks: list[int]) -> None:
    check_whole(log, breaks)


@settings(max_examples=30, deadline=None)
@given(logs, logs, st.lists(st.integers(0, len(LARGE) + 1200), max_size=4))
def test_no_gap_and_no_repeat_in_a_frame_that_comes_in_pieces(
    before: list[Entry], after: list[Entry], breaks: list[int]
) -> None:
    check_whole([*before, (STDOUT, LARGE), *after], breaks)


def check_whole(log: list[Entry], breaks: list[int]) -> None:
    """Read a log whose connections break after so many bytes each."""
    with FakeServer(*(serving_log(log, at) for at in breaks), serving_log(log)) as server:
        chunks = read(server)
    for stream, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
        whole = b"".join(b"?" * what if isinstance(what, int) else what for number, what in log if number == stream)
        assert joined(chunks, name) == whole
    assert all(chunk.data or chunk.dropped for chunk in chunks)


@settings(max_examples=40, deadline=None)
@given(logs, st.integers(0, 30))
def test_a_cursor_goes_on_behind_its_chunk(log: list[Entry], count: int) -> None:
    with FakeServer(serving_log(log)) as server:
        whole = read(server)
        head = whole[:count]
        rest = read(server, cursor=head[-1].cursor, tail=3) if head else whole
    for name in ("stdout", "stderr"):
        assert joined(head, name) + joined(rest, name) == joined(whole, name)


def answers(*frames: Callable[[Peer], None], **reply: object) -> Script:
    """Return a script that does these things and ends with the reply."""

    def script(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        for frame in frames:
            frame(peer)
        peer.reply(request, reply)

    return script


def out(data: bytes) -> Callable[[Peer], None]:
    return lambda peer: peer.output(STDOUT, data)


def says(method: str, **params: object) -> Callable[[Peer], None]:
    return lambda peer: peer.notify(method, **params)


@pytest.mark.parametrize(
    ("script", "error", "why"),
    [
        pytest.param(
            answers(Peer.begin, out(b"abc"), stdout=4, stderr=0),
            IncompleteLog,
            "incomplete: 3 of 4 bytes of stdout came",
            id="bytes of stdout are missing",
        ),
        pytest.param(
            answers(Peer.begin, stdout=0, stderr=5),
            IncompleteLog,
            "incomplete: 0 of 5 bytes of stderr came",
            id="bytes of stderr are missing",
        ),
        pytest.param(
            answers(Peer.begin, out(b"abc"), stdout=1, stderr=0),
            IncompleteLog,
            "3 of 1 bytes of stdout",
            id="more came than there is",
        ),
        pytest.param(
            answers(lambda peer: peer.begin(stdout=7), out(b"abc"), stdout=12, stderr=0),
            IncompleteLog,
            "3 of 5 bytes of stdout",
            id="bytes are missing after a later beginning",
        ),
        pytest.param(
            answers(Peer.begin, stderr=0),
            ProtocolError,
            "how many bytes stdout has",
            id="the end of stdout is not told",
        ),
        pytest.param(
            answers(Peer.begin, stdout=0, stderr="0"),
            ProtocolError,
            "how many bytes stderr has",
            id="the end of stderr is text",
        ),
        pytest.param(
            answers(Peer.begin, stdout=True, stderr=0),
            ProtocolError,
            "how many bytes stdout has",
            id="the end of stdout is a boolean",
        ),
        pytest.param(answers(stdout=0, stderr=0), ProtocolError, "where the log begins", id="no beginning is told"),
        pytest.param(
            answers(out(b"abc"), stdout=3, stderr=0),
            ProtocolError,
            "where the log begins",
            id="output before the beginning",
        ),
        pytest.param(
            answers(Peer.begin, Peer.begin, stdout=0, stderr=0),
            ProtocolError,
            "said twice",
            id="the beginning is told twice",
        ),
        pytest.param(
            answers(says("log.start", id=ID, stdout=0), stdout=0, stderr=0),
            ProtocolError,
            "how many bytes stderr",
            id="the beginning of stderr is not told",
        ),
        pytest.param(
            answers(says("log.start", stdout=0, stderr=0), stdout=0, stderr=0),
            ProtocolError,
            "of which task",
            id="the task is not told",
        ),
        pytest.param(
            answers(Peer.begin, says("log.dropped", stream="x", bytes=1)),
            ProtocolError,
            "of which stream",
            id="bytes of an unknown stream are dropped",
        ),
        pytest.param(
            answers(Peer.begin, says("log.dropped", stream="stdout", bytes=-1)),
            ProtocolError,
            "how many bytes bytes",
            id="a negative number of bytes is dropped",
        ),
        pytest.param(
            answers(lambda peer: peer.send(b"HTTP/1.1 200 OK")),
            ProtocolError,
            "not levity's protocol",
            id="an HTTP server",
        ),
        pytest.param(
            answers(lambda peer: peer.send(b"\0\0\0\5\7abcd")),
            ProtocolError,
            "unknown kind 7",
            id="an unknown kind of frame",
        ),
        pytest.param(
            answers(lambda peer: peer.send(b"\0\0\0\5\1abcd")),
            ProtocolError,
            "without its time",
            id="output without its time",
        ),
    ],
)
def test_a_log_that_is_not_whole_or_no_log(script: Script, error: type[LevityError], why: str) -> None:
    with FakeServer(script) as server, pytest.raises(error, match=why):
        read(server)
    assert server.connections == 1


def test_only_the_selected_stream_has_to_be_whole() -> None:
    with FakeServer(answers(Peer.begin, out(b"abc"), stdout=3, stderr=99)) as server:
        assert plain(read(server, streams=["stdout"])) == [("stdout", b"abc")]
    assert server.requests[0].params["streams"] == ["stdout"]


def test_a_levityd_that_lost_bytes_meanwhile() -> None:
    short = answers(lambda peer: peer.begin(stdout=1), stdout=1, stderr=0)
    with FakeServer(serving_log([(STDOUT, b"abc")], 150), short) as server:
        with pytest.raises(IncompleteLog, match="cannot go on at byte 3 of stdout: levityd has it at 1"):
            read(server)
        assert server.requests[1].params["from"] == {"stdout": 3, "stderr": 0}


def test_unordered_bytes_are_told_once() -> None:
    def unordered(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        at = request.params.get("from", {"stdout": 0, "stderr": 0})
        peer.begin(**at)
        peer.notify("log.unordered", stdout=8 - at["stdout"], stderr=0)
        if peer.number == 0:
            peer.output(STDOUT, b"abc")
        else:
            peer.output(STDOUT, b"defgh")
            peer.notify("log.unordered", stdout=2, stderr=3)
            peer.output(STDERR, b"123")
            peer.output(STDOUT, b"ij")
            peer.reply(request, {"stdout": 10, "stderr": 3})

    with FakeServer(unordered) as server:
        chunks = read(server)
    assert [(chunk.stream, chunk.data or chunk.unordered) for chunk in chunks] == [
        ("stdout", 8),
        ("stdout", b"abc"),
        ("stdout", b"defgh"),
        ("stdout", 2),
        ("stderr", 3),
        ("stderr", b"123"),
        ("stdout", b"ij"),
    ]


def test_notifications_of_a_newer_levityd_are_skipped() -> None:
    with FakeServer(answers(Peer.begin, says("log.mood", good=True), out(b"abc"), stdout=3, stderr=0)) as server:
        assert plain(read(server)) == [("stdout", b"abc")]


def test_every_option_is_sent_to_levityd() -> None:
    utc = dt.UTC
    with FakeServer(serving_log([])) as server:
        read(server, follow=True, tail=0, streams=("stderr", "stdout"), exact_times=True, since=1.5)
        read(server, since=dt.datetime(2026, 11, 24, tzinfo=utc), until=dt.timedelta(minutes=1))
        read(server, 1e-9 + 0.1, until=1_795_478_400)
    common, dates, last = (request.params for request in server.requests)
    assert common == {
        "id": "3f2a",
        "heartbeat_s": TIMEOUT_S / 3,
        "follow": True,
        "tail": 0,
        "streams": ["stdout", "stderr"],
        "exact_times": True,
        "since_ns": 1_500_000_000,
    }
    assert dates["since_ns"] == 1_795_478_400 * 10**9 == last["until_ns"]
    # The time until the request is sent is added: "ago" counts from the call.
    assert 60 * 10**9 <= dates["until_ago_ns"] < 80 * 10**9
    assert last["heartbeat_s"] == 0.05


def test_a_task_that_is_not_known() -> None:
    with FakeServer(answering(UnknownTask("no task 'x'"))) as server, pytest.raises(UnknownTask):
        read(server)


def test_unavailable_is_asked_again() -> None:
    with FakeServer(answering(Unavailable("wait")), serving_log([(STDOUT, b"abc")])) as server:
        assert plain(read(server)) == [("stdout", b"abc")]


def test_a_refused_connection_fails_at_once() -> None:
    with FakeServer(serving_log([])) as server:
        pass
    with pytest.raises(ServerUnreachable, match="no levityd listens"):
        read(server)


def test_a_server_that_breaks_at_the_same_byte_every_time_is_given_up() -> None:
    with FakeServer(serving_log([(STDOUT, b"abc"), (STDOUT, b"d" * 70_000)], 200)) as server:
        # In the last moments the time may be over in the middle of a try.
        with pytest.raises((ServerUnreachable, ServerTimeout)):
            read(server, timeout=3)
        assert server.connections > 2


def test_heartbeats_keep_a_silent_log_and_renew_the_time() -> None:
    clock = FakeClock()

    def quiet(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        peer.begin(**request.params.get("from", {}))
        if peer.number == 0:
            peer.output(STDOUT, b"abc")
            return
        if peer.number < 3:
            # Longer than the timeout, counted from the first: only the heartbeat tells that levityd lives.
            clock.time += 0.8 * TIMEOUT_S
            peer.notify("heartbeat")
            return
        peer.output(STDOUT, b"d")
        peer.reply(request, {"stdout": 4, "stderr": 0})

    with FakeServer(quiet) as server:
        assert joined(read(server, clock=clock), "stdout") == b"abcd"


def test_silence_is_bounded() -> None:
    def falls_silent(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.begin()
        peer.output(STDOUT, b"abc")
        peer.wait_gone()

    got = []
    with FakeServer(falls_silent) as server, Client(server.address, timeout=3) as client:
        chunks = client.logs("3f2a")
        got.append(next(chunks))
        with pytest.raises(ServerTimeout):
            next(chunks)
    assert plain(got) == [("stdout", b"abc")]


def test_other_requests_may_be_made_meanwhile_and_the_rest_left_unread() -> None:
    def serves(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        if request.method == "task.logs":
            peer.begin()
            peer.output(STDOUT, b"abc")
            peer.wait_gone()
        peer.reply(request, record())
        peer.wait_gone()

    with FakeServer(serves) as server, Client(server.address, TIMEOUT_S) as client:
        chunks = client.logs("3f2a")
        assert next(chunks).data == b"abc"
        assert client.query("3f2a").id == record()["id"]
        chunks.close()  # type: ignore[attr-defined]
    assert server.connections == 2


def test_a_reply_to_another_request() -> None:
    def strange(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        request.id = 99
        peer.reply(request, {"stdout": 0, "stderr": 0})

    with FakeServer(strange) as server, pytest.raises(LevityError, match="answered request 99"):
        read(server)


def test_chunks_tell_what_they_are() -> None:
    assert repr(LogChunk(ID, "stdout", 1, b"abc", (3, 0))) == "<LogChunk stdout 3 B>"
    assert repr(LogChunk(ID, "stderr", 0, b"", (3, 9), dropped=9)) == "<LogChunk stderr 0 B, 9 B dropped>"
    assert repr(LogChunk(ID, "stderr", 0, b"", (3, 0), unordered=2)) == "<LogChunk stderr 0 B, 2 B unordered>"
    assert LogChunk(ID, "stdout", 1, b"abc", (3, 7)).cursor == f"{ID}/3/7"
