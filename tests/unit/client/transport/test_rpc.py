"""Broken connections: what the client retries, how long, and what it gives up at once. Runs in: pytest."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from levity import Client
from levity.errors import (
    ConnectionLost,
    LevityError,
    ProtocolError,
    ServerTimeout,
    ServerUnreachable,
    Unavailable,
    UnknownTask,
)
from levity.protocol.frames import STDOUT
from levity.transport.rpc import Retry
from tests.support.fake_clock import FakeClock
from tests.support.fake_server import FakeServer, Peer, answering, record, serving_log

TIMEOUT_S = 20.0
# In the last moments the time may be over in the middle of a try.
GIVEN_UP = (ServerUnreachable, ServerTimeout)


def breaks_before_the_greeting(peer: Peer) -> None:
    """Accept and hang up: a front-end killed at that moment."""


def breaks_in_the_greeting(peer: Peer) -> None:
    peer.send(b"\0\0\0\x50\0{")


def breaks_after_the_greeting(peer: Peer) -> None:
    peer.hello()


def breaks_after_the_request(peer: Peer) -> None:
    peer.hello()
    peer.request()


def breaks_in_the_answer(peer: Peer) -> None:
    peer.hello()
    peer.request()
    peer.send(b"\0\0\1\0\0{")


BREAKS = [
    pytest.param(breaks_before_the_greeting, id="before the greeting"),
    pytest.param(breaks_in_the_greeting, id="in the greeting"),
    pytest.param(breaks_after_the_greeting, id="after the greeting"),
    pytest.param(breaks_after_the_request, id="after the request"),
    pytest.param(breaks_in_the_answer, id="in the answer"),
]


@pytest.mark.parametrize("breaks", BREAKS)
def test_a_broken_request_is_made_again(breaks: Callable[[Peer], None]) -> None:
    with FakeServer(breaks, breaks, answering(record())) as server, Client(server.address, TIMEOUT_S) as client:
        assert client.start(["true"]) == record()["id"]
    assert server.connections == 3
    starts = server.requests
    assert {request.method for request in starts} == {"task.start"}
    assert len({request.params["id"] for request in starts}) == 1, "a start sent twice is to run once"


def once(peer: Peer) -> None:
    peer.hello()
    peer.reply(peer.request(), record())


def test_a_kept_connection_that_broke_meanwhile_is_made_again() -> None:
    with FakeServer(once) as server, Client(server.address, TIMEOUT_S) as client:
        for _ in range(4):
            assert client.query("3f2a").id == record()["id"]
    assert server.connections == 4


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_levityd_that_restarts_is_waited_for(host: str) -> None:
    def dies(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.server.stop_listening()

    with FakeServer(dies, answering(record()), host=host) as server:
        clock = FakeClock(at=8, act=server.listen)
        # Over TCP both sides prove again who they are.
        with Client(server.address, TIMEOUT_S, token_file=server.token_file if host else None) as client:
            client.clock = clock
            assert client.start(["true"]) == record()["id"]
    assert clock.pauses == [0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25, 0.25]
    assert len({request.params["id"] for request in server.requests}) == 1


def test_a_levityd_that_was_there_before_this_request_is_waited_for() -> None:
    def dies(peer: Peer) -> None:
        peer.hello()
        peer.reply(peer.request(), record())
        peer.server.stop_listening()

    with FakeServer(dies, answering(record())) as server:
        clock = FakeClock(at=3, act=server.listen)
        with Client(server.address, TIMEOUT_S) as client:
            client.clock = clock
            client.query("3f2a")
            client.query("3f2a")
    assert len(clock.pauses) == 3


@pytest.mark.parametrize("what", ["request", "log"])
def test_a_levityd_that_answered_another_connection_is_waited_for(what: str) -> None:
    """A levityd may die between a task's start and the first request for its log, on another connection."""

    def dies(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        peer.server.stop_listening()
        peer.reply(request, record())

    then = {"request": answering(record()), "log": serving_log([(STDOUT, b"abc")])}
    with FakeServer(dies, then[what]) as server, Client(server.address, TIMEOUT_S) as client:
        client.query("3f2a")
        client.clock = clock = FakeClock(at=3, act=server.listen)
        if what == "log":
            assert [chunk.data for chunk in client.logs("3f2a")] == [b"abc"]
        else:
            with client.another() as other:
                assert other.query("3f2a").id == record()["id"]
    assert len(clock.pauses) == 3


def test_a_refused_connection_fails_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    with FakeServer(once, host="127.0.0.1") as server:
        address = server.address
    for nowhere in (address, f"unix:{tmp_path}/none"):
        with Client(nowhere) as client:
            client.clock = clock
            with pytest.raises(ServerUnreachable, match=rf"no levityd listens at {nowhere}"):
                client.query("3f2a")
    assert clock.pauses == []


def test_a_levityd_that_never_comes_back_is_given_up_in_time() -> None:
    def dies(peer: Peer) -> None:
        peer.hello()
        peer.server.stop_listening()

    with (
        FakeServer(dies) as server,
        Client(server.address, timeout=2) as client,
        pytest.raises(GIVEN_UP),
    ):
        client.query("3f2a")


def test_a_levityd_that_always_hangs_up_is_given_up_in_time() -> None:
    with (
        FakeServer(breaks_before_the_greeting) as server,
        Client(server.address, timeout=2) as client,
        pytest.raises(GIVEN_UP),
    ):
        client.query("3f2a")
    assert server.connections > 2


def test_unavailable_is_asked_again() -> None:
    script = answering(Unavailable("the engine restarts"), Unavailable("the engine restarts"), record())
    with FakeServer(script) as server, Client(server.address, TIMEOUT_S) as client:
        assert client.query("3f2a").id == record()["id"]
    assert (server.connections, len(server.requests)) == (1, 3)


def test_unavailable_for_too_long() -> None:
    with (
        FakeServer(answering(Unavailable("the engine restarts"))) as server,
        Client(server.address, timeout=0.1) as client,
        pytest.raises((Unavailable, ServerTimeout)),
    ):
        client.query("3f2a")


def test_the_last_failure_is_raised_when_the_time_is_over() -> None:
    clock = FakeClock()
    retry = Retry(1.0, clock=clock)
    retry.wait(ConnectionLost("broke"))
    retry.wait(ServerUnreachable("refused"))
    clock.time += 0.931
    with pytest.raises(Unavailable, match=r"the engine restarts \(tried again for 1 s\)"):
        retry.wait(Unavailable("the engine restarts"))
    retry.renew(1.0)
    retry.wait(ServerUnreachable("refused"))
    assert clock.pauses == [0.01, 0.02, 0.01]


def test_a_refused_connection_is_not_retried_where_no_levityd_ever_answered() -> None:
    with pytest.raises(ServerUnreachable, match=r"^refused$"):
        Retry(1.0).wait(ServerUnreachable("refused"))


def test_an_answer_that_came_too_late_is_not_the_next_ones() -> None:
    def silent(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.wait_gone()

    with FakeServer(silent, answering(record(id="new"))) as server, Client(server.address, timeout=3) as client:
        with pytest.raises(ServerTimeout, match=r"did not answer within 3 s"):
            client.query("old")
        client.timeout_s = TIMEOUT_S
        assert client.query("new").id == "new"


def says(data: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.send(data)
        peer.wait_gone()

    return script


def greets(**changes: object) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.hello(**changes)
        peer.wait_gone()

    return script


def answers(data: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.send(data)
        peer.wait_gone()

    return script


def frame(text: str) -> bytes:
    return (len(text) + 1).to_bytes(4, "big") + b"\0" + text.encode()


@pytest.mark.parametrize(
    ("script", "error", "why"),
    [
        pytest.param(
            says(b"SSH-2.0-OpenSSH_9.2\r\n"), ProtocolError, "is no levityd .*; check the address", id="an SSH server"
        ),
        pytest.param(says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ProtocolError, "is no levityd", id="an HTTP server"),
        pytest.param(says(b"\0\1\0\0\0"), ProtocolError, "the limit is 16384", id="a greeting that is too long"),
        pytest.param(
            says(b"\0\0\0\x0a\1" + bytes(9)),
            ProtocolError,
            "output comes before the greeting",
            id="output in place of the greeting",
        ),
        pytest.param(says(frame("[]")), ProtocolError, "is no levityd", id="a list as greeting"),
        pytest.param(says(frame("{}")), ProtocolError, "is no levityd", id="an empty greeting"),
        pytest.param(
            says(frame('{"jsonrpc":"2.0","method":"howdy"}')),
            ProtocolError,
            "the greeting is missing",
            id="another notification",
        ),
        pytest.param(
            says(frame('{"jsonrpc":"2.0","id":1,"result":{}}')),
            ProtocolError,
            "the greeting is missing",
            id="a reply in place of the greeting",
        ),
        pytest.param(
            says(frame('{"jsonrpc":"2.0","id":null,"error":{"code":20,"message":"too many"}}')),
            LevityError,
            "too many",
            id="an error in place of the greeting",
        ),
        pytest.param(
            greets(protocol=2),
            ProtocolError,
            "speaks version 2 of the protocol, this client version 1",
            id="another version of the protocol",
        ),
        pytest.param(greets(protocol=None), ProtocolError, "speaks version None", id="no version of the protocol"),
        pytest.param(answers(b"HTTP/1.1"), ProtocolError, "not levity's protocol", id="an HTTP answer"),
        pytest.param(
            answers(frame('{"id":2,"result":{}}')),
            ProtocolError,
            "answered request 2, but 1 was asked",
            id="an answer to another request",
        ),
        pytest.param(
            answers(frame('{"result":{}}')), ProtocolError, "answered request None", id="an answer to no request"
        ),
        pytest.param(answers(frame('{"id":1}')), ProtocolError, "neither a result nor an error", id="an empty answer"),
        pytest.param(
            answers(b"\0\0\0\x0a\1" + bytes(9)),
            ProtocolError,
            "output that nobody asked for",
            id="output in place of an answer",
        ),
        pytest.param(
            answers(frame('{"id":null,"error":{"code":1,"message":"no task"}}')),
            UnknownTask,
            "no task",
            id="an error to no request",
        ),
    ],
)
def test_an_answer_out_of_the_protocol_is_told_and_not_retried(
    script: Callable[[Peer], None], error: type[LevityError], why: str
) -> None:
    with (
        FakeServer(script) as server,
        Client(server.address, TIMEOUT_S) as client,
        pytest.raises(error, match=why),
    ):
        client.query("3f2a")
    assert server.connections == 1


def test_no_greeting_at_all() -> None:
    with (
        FakeServer(Peer.wait_gone) as server,
        Client(server.address, timeout=0.1) as client,
        pytest.raises(ServerTimeout, match=r"no levityd greeted at .* within 0.1 s"),
    ):
        client.query("3f2a")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        pytest.param("no-such-host.invalid:4321", "the host 'no-such-host.invalid' is not known", id="no such host"),
        pytest.param(f"{'x' * 70}.example:4321", "is not known", id="a label that is too long"),
        pytest.param("\xe9..example:4321", "is not known", id="a name that is no IDNA"),
        pytest.param("a\0b:4321", "holds no NUL", id="a NUL in the name"),
        pytest.param("unix:/", "cannot connect to unix:/|no levityd listens", id="a unix socket that is a directory"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, why: str) -> None:
    with Client(address) as client, pytest.raises(LevityError, match=why):
        client.query("3f2a")


def test_a_socket_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with (
            Client(f"unix:{path}") as client,
            pytest.raises(ServerUnreachable, match=r"cannot connect to .*wrong type"),
        ):
            client.query("3f2a")
