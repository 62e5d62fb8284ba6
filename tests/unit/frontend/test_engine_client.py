"""The front-end's end of the pipe to the engine, in a process of its own; the test is the engine."""

import json
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from levity.errors import AuthenticationError, Forbidden, LevityError
from levity.protocol.frames import FRAME_LIMIT, json_frame
from levity.protocol.messages import error_body, parse_reply, result_body
from supervisor.ipc.envelope import Envelope, envelope_frame, open_envelope
from tests.support.engine_client import AskingProcess

MESSAGE = '{"jsonrpc": "2.0", "id": 7,  "method":"task.query"}'


@pytest.fixture(scope="module")
def shared() -> Iterator[AskingProcess]:
    """One that no test ends."""
    one = AskingProcess()
    yield one
    assert one.process.poll() is None
    one.close()


@pytest.fixture
def asking() -> Iterator[AskingProcess]:
    one = AskingProcess()
    yield one
    one.close()


def refusal(number: int, error: LevityError) -> bytes:
    return envelope_frame(Envelope("reply", number, error_body(7, error), error=error.code))


def test_a_clients_request_goes_and_its_reply_comes_as_it_is(shared: AskingProcess) -> None:
    shared.ask("pass", MESSAGE)
    envelope = shared.request()
    assert (envelope.do, envelope.ticket, envelope.body.decode()) == ("pass", "t", MESSAGE)
    # Not even looked at.
    shared.send(envelope_frame(Envelope("reply", envelope.number, b"any bytes")))
    assert shared.answer() == "any bytes"


def test_a_refusal_is_passed_on_but_not_that_the_ticket_is_none(shared: AskingProcess) -> None:
    shared.ask("pass", MESSAGE)
    shared.send(refusal(shared.request().number, Forbidden("not yours")))
    assert json.loads(shared.answer())["error"]["message"] == "not yours"
    shared.ask("pass", MESSAGE)
    shared.send(refusal(shared.request().number, AuthenticationError("secret")))
    assert shared.answer() == ["AuthenticationError", "the client is not known any more"]


def test_its_own_requests(shared: AskingProcess) -> None:
    shared.ask("call", "auth.nonce")
    envelope = shared.request()
    assert (envelope.do, json.loads(envelope.body)["method"]) == ("ask", "auth.nonce")
    shared.reply(envelope.number, {"nonce": "x"})
    assert shared.answer() == {"nonce": "x"}
    shared.ask("fetch", "spool.open")
    shared.reply(shared.request().number, {"id": "y"}, ["a directory"])
    assert shared.answer() == [{"id": "y"}, "a directory"]
    shared.ask("call", "auth.check")
    shared.send(refusal(shared.request().number, AuthenticationError("no")))
    assert shared.answer() == ["AuthenticationError", "no"]


heads = st.dictionaries(
    st.sampled_from(["do", "number", "ticket", "error", "x"]),
    st.sampled_from(["pass", "ask", "reply", "notify", ""]) | st.integers(-1, 9) | st.none() | st.just([]),
).map(lambda head: json.dumps(head).encode())
messages = st.binary(max_size=20) | st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "result", "error", "method"]), st.just("2.0") | st.just({}) | st.none()
).map(lambda message: json.dumps(message).encode())
bodies = st.one_of(
    st.binary(max_size=40),
    st.tuples(heads | st.binary(max_size=20), messages).map(
        lambda parts: struct.pack(">BI", 0, len(parts[0])) + parts[0] + parts[1]
    ),
)


def answers(body: bytes, number: int) -> bool:
    """Whether this is a reply to that number which a caller could be given."""
    try:
        envelope = open_envelope(body)
        parse_reply(envelope.body)
    except LevityError:
        return False
    return (envelope.do, envelope.number) == ("reply", number)


@given(st.lists(bodies, max_size=4), st.booleans(), st.integers(1, 60))
def test_a_message_that_is_not_understood_changes_nothing(
    shared: AskingProcess, nonsense: list[bytes], has_fd: bool, piece: int
) -> None:
    shared.ask("fetch", "spool.open")
    number = shared.request().number
    assume_none = [body for body in nonsense if answers(body, number)]
    for body in nonsense if not assume_none else []:
        flagged = bytes((body[0] & 0xFE | has_fd, *body[1:])) if body else body
        shared.send(shared.frame_of(flagged), ["theirs"] if has_fd and body else [])
    garbled = envelope_frame(Envelope("reply", number, b'{"jsonrpc":"2.0","result":[]}'), has_fd=True)
    shared.send(garbled[:piece], ["garbled"])
    shared.send(garbled[piece:])
    shared.reply(number, {"id": "y"}, ["mine"])
    assert shared.answer() == [{"id": "y"}, "mine"]
    assume(not assume_none)


def test_notifications_and_answers_to_no_request_are_ignored_and_their_descriptors_closed(
    shared: AskingProcess,
) -> None:
    shared.ask("call", "auth.nonce")
    number = shared.request().number
    for do in ("notify", "ask", "pass", ""):  # With the very number that is waited for.
        shared.send(envelope_frame(Envelope(do, number, result_body(None, {"wrong": True}))))
    shared.reply(number, {})
    assert shared.answer() == {}
    held = len(os.listdir(f"/proc/{shared.process.pid}/fd"))
    notification = Envelope("notify", 0, b'{"jsonrpc":"2.0","method":"task.ended","params":{}}')
    for _ in range(100):
        shared.send(envelope_frame(notification, has_fd=True), ["x"])
        shared.reply(number, {"late": True}, ["y"])
    shared.ask("call", "auth.nonce")
    shared.reply(shared.request().number, {"nonce": "x"})
    assert shared.answer() == {"nonce": "x"}
    assert len(os.listdir(f"/proc/{shared.process.pid}/fd")) == held


def test_a_flood_of_nonsense_is_a_line_in_the_log(asking: AskingProcess) -> None:
    asking.ask("call", "auth.nonce")
    number = asking.request().number
    asking.send(asking.frame_of(b"nonsense") * 10_000)
    asking.reply(number, {})
    assert asking.answer() == {}
    lines = asking.close().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("levityd: front-end: ignored something of the engine's")


def test_the_next_engine_is_asked_again(asking: AskingProcess) -> None:
    """Half of an answer is none, and what came of it does not spoil the next pipe."""
    asking.ask("pass", MESSAGE)
    first = asking.request()
    asking.send(envelope_frame(Envelope("reply", first.number, b"half"))[:-1])
    asking.pipe.close()
    asking.connect()
    again = asking.request()
    assert (again.number, again.body) == (first.number, first.body)
    asking.send(envelope_frame(Envelope("reply", again.number, b"whole")))
    assert asking.answer() == "whole"


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 200 OK\r\n\r\n", bytes(5), json_frame(b"{}"), struct.pack(">IB", 10, 17)],
    ids=["http", "no length", "a client's frame", "an unknown kind"],
)
def test_a_stream_that_cannot_be_read_ends_the_process(asking: AskingProcess, data: bytes) -> None:
    asking.send(data)
    assert asking.process.wait(15) == 1
    assert "the engine is not understood" in asking.close()


def test_descriptors_that_nothing_claims_end_the_process(asking: AskingProcess) -> None:
    try:
        for _ in range(1000):
            asking.send(AskingProcess.frame_of(struct.pack(">BI", 0, 2) + b"{}"), ["x"])
    except OSError:
        pass  # It has ended.
    assert asking.process.wait(15) == 1
    assert "nothing is said of" in asking.close()


def test_a_request_that_is_longer_when_it_is_sent_again_ends_nothing(asking: AskingProcess) -> None:
    """Parameters that say how much time is left are made anew for the next engine."""
    asking.ask("grow", "task.wait")
    first = len(asking.request().body)
    asking.pipe.close()
    asking.connect()
    again = asking.request()
    assert len(again.body) > first >= FRAME_LIMIT - 1
    asking.reply(again.number, {})
    assert asking.answer() == {}
