"""Logs: whole, in order, once, also over broken connections. Runs in: pytest."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levity import Client
from levity.errors import LevityError, ProtocolError, ServerTimeout, ServerUnreachable, Unavailable, UnknownTask
from levity.protocol.frames import STDERR, STDOUT
from tests.support.fake_server import FakeServer, Peer, answering, record

Pieces = list[tuple[int, bytes]]
TIMEOUT_S = 20.0


def totals(pieces: Pieces) -> dict[str, object]:
    return {
        name: sum(len(data) for stream, data in pieces if stream == number)
        for number, name in ((STDOUT, "stdout"), (STDERR, "stderr"))
    }


def sends(pieces: Pieces, **changes: object) -> Callable[[Peer], None]:
    """Return a script that sends a whole log."""

    def script(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        for stream, data in pieces:
            peer.output(stream, data)
        peer.reply(request, totals(pieces) | changes)

    return script


def breaks_after(pieces: Pieces, tail: bytes = b"") -> Callable[[Peer], None]:
    """Return a script that sends a part of a log, ends in the middle of a frame, and hangs up."""

    def script(peer: Peer) -> None:
        peer.hello()
        peer.request()
        for stream, data in pieces:
            peer.output(stream, data)
        peer.send(tail)

    return script


def read(server: FakeServer, timeout: float = TIMEOUT_S) -> list[tuple[str, bytes]]:
    with Client(server.address, timeout) as client:
        return list(client.logs("3f2a"))


def joined(chunks: list[tuple[str, bytes]], name: str) -> bytes:
    return b"".join(data for stream, data in chunks if stream == name)


def test_both_streams_in_the_order_they_came() -> None:
    every = bytes(range(256))
    pieces = [(STDOUT, b"one\n"), (STDERR, every), (STDOUT, b""), (STDOUT, b"two" * 100_000)]
    with FakeServer(sends(pieces)) as server:
        assert read(server) == [("stdout", b"one\n"), ("stderr", every), ("stdout", b"two" * 100_000)]
    assert server.requests[0].method == "task.logs"
    assert server.requests[0].params == {"id": "3f2a"}


def test_an_empty_log() -> None:
    with FakeServer(sends([])) as server:
        assert read(server) == []


def test_it_goes_on_at_the_same_byte_however_it_is_cut() -> None:
    first = [(STDOUT, b"abc"), (STDERR, b"1"), (STDOUT, b"def")]
    second = [(STDOUT, b"abcd"), (STDERR, b"123"), (STDOUT, b"e")]
    third = [(STDOUT, b"ab"), (STDOUT, b"cdefgh"), (STDERR, b"1234"), (STDOUT, b"i")]
    with FakeServer(breaks_after(first, b"\0\0\1\0\1"), breaks_after(second), sends(third)) as server:
        chunks = read(server)
    assert chunks == [
        ("stdout", b"abc"),
        ("stderr", b"1"),
        ("stdout", b"def"),
        ("stderr", b"23"),
        ("stdout", b"gh"),
        ("stderr", b"4"),
        ("stdout", b"i"),
    ]


cuts = st.lists(st.integers(1, 12), max_size=12)


def cut(stream: int, data: bytes, lengths: list[int]) -> Pieces:
    pieces = []
    for length in lengths:
        pieces.append((stream, data[:length]))
        data = data[length:]
    return [*pieces, (stream, data)]


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.tuples(cuts, cuts, st.integers(0, 20)), max_size=3))
def test_no_gap_and_no_repeat(out: bytes, err: bytes, breaks: list[tuple[list[int], list[int], int]]) -> None:
    scripts = [
        breaks_after((cut(STDOUT, out, out_cuts) + cut(STDERR, err, err_cuts))[:length])
        for out_cuts, err_cuts, length in breaks
    ]
    with FakeServer(*scripts, sends(cut(STDERR, err, []) + cut(STDOUT, out, []))) as server:
        chunks = read(server)
    assert joined(chunks, "stdout") == out
    assert joined(chunks, "stderr") == err


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (sends([(STDOUT, b"abc")], stdout=4), "incomplete: 3 of 4 bytes of stdout"),
        (sends([(STDERR, b"abc")], stderr=5), "incomplete: 3 of 5 bytes of stderr"),
        (sends([], stdout=None), "how many bytes stdout has"),
        (sends([], stderr="0"), "how many bytes stderr has"),
    ],
)
def test_fewer_bytes_than_promised(script: Callable[[Peer], None], why: str) -> None:
    with FakeServer(script) as server, pytest.raises(ProtocolError, match=why):
        read(server)


def test_bytes_that_were_there_before_are_gone() -> None:
    scripts = breaks_after([(STDOUT, b"abcdef")]), sends([(STDOUT, b"abc")])
    with FakeServer(*scripts) as server, pytest.raises(ProtocolError, match="incomplete: 3 of 6 bytes of stdout"):
        read(server)


def test_a_task_that_is_not_known() -> None:
    with FakeServer(answering(UnknownTask("no task 'x'"))) as server, pytest.raises(UnknownTask):
        read(server)


def test_unavailable_is_asked_again() -> None:
    with FakeServer(answering(Unavailable("wait")), sends([(STDOUT, b"abc")])) as server:
        assert read(server) == [("stdout", b"abc")]


def test_nobody_there_fails_at_once() -> None:
    with FakeServer(sends([])) as server:
        pass
    with pytest.raises(ServerUnreachable, match="no levityd listens"):
        read(server)


def test_a_server_that_breaks_at_the_same_byte_every_time_is_given_up() -> None:
    with FakeServer(breaks_after([(STDOUT, b"abc")])) as server:
        # In the last moments the time may be over in the middle of a try.
        with pytest.raises((ServerUnreachable, ServerTimeout)):
            read(server, timeout=0.3)
        assert server.connections > 2


def test_silence_is_bounded() -> None:
    def falls_silent(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.output(STDOUT, b"abc")
        peer.wait_gone()

    got = []
    with FakeServer(falls_silent) as server, Client(server.address, timeout=0.2) as client:
        chunks = client.logs("3f2a")
        got.append(next(chunks))
        with pytest.raises(ServerTimeout):
            next(chunks)
    assert got == [("stdout", b"abc")]


def test_other_requests_may_be_made_meanwhile_and_the_rest_left_unread() -> None:
    def serves(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        if request.method == "task.logs":
            peer.output(STDOUT, b"abc")
            peer.wait_gone()
        peer.reply(request, record())
        peer.wait_gone()

    with FakeServer(serves) as server, Client(server.address, TIMEOUT_S) as client:
        chunks = client.logs("3f2a")
        assert next(chunks) == ("stdout", b"abc")
        assert client.query("3f2a").id == record()["id"]
        chunks.close()  # type: ignore[attr-defined]
    assert server.connections == 2


def test_a_reply_to_something_else() -> None:
    def strange(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        request.id = 99
        peer.reply(request, {"stdout": 0, "stderr": 0})

    with FakeServer(strange) as server, pytest.raises(LevityError, match="answered request 99"):
        read(server)
