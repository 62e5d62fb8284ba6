"""JSON-RPC messages. Runs in: pytest."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity import errors
from levity.errors import InvalidRequest, LevityError, ProtocolError
from levity.protocol.frames import JSON, Frame, FrameDecoder
from levity.protocol.messages import (
    Reply,
    Request,
    dump_object,
    error_frame,
    notification_frame,
    parse_object,
    parse_reply,
    parse_request,
    request_frame,
    result_frame,
)

JsonObject = dict[str, Any]

# Text with lone surrogates, too: they stand for bytes that are not UTF-8.
texts = st.text(st.characters(), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))
objects = st.dictionaries(texts, values, max_size=5)


def body(wire: bytes) -> bytes:
    """Return the body of the only frame in `wire`."""
    decoder = FrameDecoder()
    decoder.feed(wire)
    frame = decoder.next_frame()
    assert isinstance(frame, Frame)
    assert frame.kind == JSON
    assert decoder.pending == 0
    return frame.body


@given(objects)
def test_an_object_comes_back(value: JsonObject) -> None:
    wire = dump_object(value)
    assert wire.isascii()
    assert parse_object(wire) == value


@given(st.integers() | texts, texts, objects)
def test_a_request_comes_back(id_: int | str, method: str, params: JsonObject) -> None:
    request = parse_request(body(request_frame(id_, method, params)))
    assert (request.id, request.method, request.params) == (id_, method, params)


@given(texts, objects)
def test_a_notification_has_no_id(method: str, params: JsonObject) -> None:
    request = parse_request(body(notification_frame(method, params)))
    assert (request.id, request.method, request.params) == (None, method, params)


@given(st.none() | st.integers() | texts, objects)
def test_a_result_comes_back(id_: int | str | None, result: JsonObject) -> None:
    reply = parse_reply(body(result_frame(id_, result)))
    assert (reply.id, reply.result, reply.error) == (id_, result, None)


@pytest.mark.parametrize("name", [name for name in errors.__all__ if "code" in vars(getattr(errors, name))])
def test_an_error_comes_back_as_its_class(name: str) -> None:
    cls = getattr(errors, name)
    reply = parse_reply(body(error_frame(7, cls("what happened"))))
    assert type(reply.error) is cls
    assert str(reply.error) == "what happened"
    assert reply.id == 7


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error(data: bytes) -> None:
    for parse in (parse_object, parse_request, parse_reply):
        try:
            parse(data)
        except LevityError:
            pass


@given(objects)
def test_any_object_is_a_message_or_refused(value: JsonObject) -> None:
    wire = dump_object(value)
    try:
        parse_request(wire)
    except InvalidRequest:
        pass
    try:
        parse_reply(wire)
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "not valid JSON", id="nothing"),
        pytest.param(b"{", "not valid JSON", id="an open brace"),
        pytest.param(b'{"a":1}x', "not valid JSON", id="text behind it"),
        pytest.param(b'{"a":1}{"b":2}', "not valid JSON", id="two objects"),
        pytest.param(b'{"a":1,"a":2}', "twice", id="a key twice"),
        pytest.param(b'{"a":{"b":1,"b":1}}', "twice", id="a key twice inside"),
        pytest.param(b'{"a":NaN}', "NaN is not JSON", id="NaN"),
        pytest.param(b'{"a":-Infinity}', "-Infinity is not JSON", id="infinity"),
        pytest.param(b'{"a":1e400}', "too large", id="a number that is too large"),
        pytest.param(b'{"a":' + b"1" * 5000 + b"}", "not valid JSON", id="a number with too many digits"),
        pytest.param(b'{"a":"\xff"}', "not valid JSON", id="a byte that is not UTF-8"),
        pytest.param(b"[]", "not a JSON object", id="a list"),
        pytest.param(b'"text"', "not a JSON object", id="a text"),
        pytest.param(b"null", "not a JSON object", id="null"),
        pytest.param(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deep", id="lists far too deep"),
        pytest.param(b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "nested too deep", id="objects far too deep"),
        pytest.param(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", "nested too deep", id="lists one level too deep"),
    ],
)
def test_bytes_that_are_no_object(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why) as caught:
        parse_object(data)
    assert len(caught.value.message) < 300


def test_nesting_up_to_the_limit() -> None:
    assert parse_object(b'{"a":' + b"[" * 31 + b"]" * 31 + b"}")


def test_an_error_fits_into_a_frame_whatever_it_quotes() -> None:
    assert len(error_frame(1, LevityError(repr("\x01" * 10_000_000)))) < 50_000


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({}, id="empty"),
        pytest.param({"id": 1, "method": "m", "params": {}}, id="without version"),
        pytest.param({"jsonrpc": "1.0", "id": 1, "method": "m"}, id="another version"),
        pytest.param({"jsonrpc": "2.0", "id": 1}, id="without method"),
        pytest.param({"jsonrpc": "2.0", "id": 1, "method": 5}, id="a number as method"),
        pytest.param({"jsonrpc": "2.0", "id": 1, "method": "m", "params": []}, id="a list as params"),
        pytest.param({"jsonrpc": "2.0", "id": 1.5, "method": "m"}, id="a fraction as id"),
        pytest.param({"jsonrpc": "2.0", "id": True, "method": "m"}, id="a boolean as id"),
        pytest.param({"jsonrpc": "2.0", "id": [1], "method": "m"}, id="a list as id"),
    ],
)
def test_an_object_that_is_no_request(value: JsonObject) -> None:
    with pytest.raises(InvalidRequest):
        parse_request(dump_object(value))


def test_params_may_be_left_out() -> None:
    assert parse_request(b'{"jsonrpc":"2.0","id":1,"method":"server.info"}').params == {}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({}, id="empty"),
        pytest.param({"id": 1, "result": None}, id="null as result"),
        pytest.param({"id": 1, "result": 5}, id="a number as result"),
        pytest.param({"id": 1, "error": None}, id="null as error"),
        pytest.param({"id": 1, "error": {"code": "x", "message": "m"}}, id="a text as code"),
        pytest.param({"id": 1, "error": {"code": 1}}, id="without message"),
        pytest.param({"id": 1, "error": {"code": 1, "message": 5}, "result": {}}, id="a number as message"),
    ],
)
def test_an_object_that_is_no_reply(value: JsonObject) -> None:
    with pytest.raises(ProtocolError, match="neither a result nor an error"):
        parse_reply(dump_object(value))


def test_telling_reprs() -> None:
    assert repr(Request(3, "task.query", {"id": "x"})) == "<Request 3 task.query>"
    assert repr(Reply(3, {})) == "<Reply 3 ok>"
    assert repr(Reply(3, {}, LevityError("no"))) == "<Reply 3 no>"
