"""JSON-RPC 2.0 messages: make, parse and check them. Runs in: every process. Owns: nothing. Never: does I/O.

https://www.jsonrpc.org/specification, without batches. A message is one object. Refused is also what JSON leaves open:
duplicate keys, NaN and infinity, deep nesting.
"""

import json

from levity.errors import InvalidRequest, LevityError, ProtocolError, from_wire
from levity.protocol.frames import json_frame

__all__ = [
    "PROTOCOL_VERSION",
    "Reply",
    "Request",
    "dump_object",
    "error_body",
    "error_frame",
    "notification_frame",
    "parse_answer",
    "parse_object",
    "parse_reply",
    "parse_request",
    "request_body",
    "request_frame",
    "result_body",
    "result_frame",
]

PROTOCOL_VERSION = 1

# Not the parser's own limit, which depends on the depth of the caller's stack: the engine might refuse what the
# front-end takes.
_DEPTH_LIMIT = 32
# An error may quote a client's text, which is megabytes at worst, and longer when it is escaped.
_MESSAGE_LIMIT = 4096

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    JsonObject = dict[str, Any]


def _unique(pairs: "list[tuple[str, Any]]") -> "JsonObject":
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def parse_object(body: bytes) -> "JsonObject":
    """Return the JSON object that `body` holds; ProtocolError for anything else."""
    try:
        value = _decoder.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # CPython's C scanner raises RecursionError, which is no ValueError, for deep nesting.
        detail = "nested too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise ProtocolError(f"a message is not valid JSON: {detail}") from None
    if not isinstance(value, dict):
        raise ProtocolError("a message is not a JSON object")
    if not _is_within(value, _DEPTH_LIMIT):
        raise ProtocolError("a message is not valid JSON: nested too deep")
    return value


def _is_within(value: "JsonObject | list[Any]", levels: int) -> bool:
    """Whether objects and lists are nested at most `levels` deep."""
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_within(item, levels - 1) for item in inner if isinstance(item, dict | list))


def dump_object(value: "JsonObject") -> bytes:
    """Encode a JSON object as ASCII, so that surrogates travel as escapes."""
    return _encoder.encode(value).encode("ascii")


class Request:
    """A request, or a notification when `id` is None."""

    __slots__ = ("id", "method", "params")

    def __init__(self, id: "int | str | None", method: str, params: "JsonObject") -> None:
        self.id = id
        self.method = method
        self.params = params

    def __repr__(self) -> str:
        return f"<Request {self.id!r} {self.method}>"


class Reply:
    """A reply to request `id`: a result, or the error it was refused with."""

    __slots__ = ("error", "id", "result")

    def __init__(self, id: "int | str | None", result: "JsonObject", error: LevityError | None = None) -> None:
        self.id = id
        self.result = result
        self.error = error

    def __repr__(self) -> str:
        return f"<Reply {self.id!r} {self.error or 'ok'}>"


def request_body(id: "int | str | None", method: str, params: "JsonObject") -> bytes:
    """Return the body of a request's frame."""
    return dump_object({"jsonrpc": "2.0", "id": id, "method": method, "params": params})


def request_frame(id: "int | str", method: str, params: "JsonObject") -> bytes:
    """Return the frame of a request."""
    return json_frame(request_body(id, method, params))


def notification_frame(method: str, params: "JsonObject") -> bytes:
    """Return the frame of a notification, which has no reply."""
    return json_frame(dump_object({"jsonrpc": "2.0", "method": method, "params": params}))


def result_body(id: "int | str | None", result: "JsonObject") -> bytes:
    """Return the body of a reply that went well."""
    return dump_object({"jsonrpc": "2.0", "id": id, "result": result})


def result_frame(id: "int | str | None", result: "JsonObject") -> bytes:
    """Return the frame of a reply that went well."""
    return json_frame(result_body(id, result))


def error_body(id: "int | str | None", error: LevityError) -> bytes:
    """Return the body of a refusal: the error's code and message."""
    body = {"code": error.code, "message": error.message[:_MESSAGE_LIMIT]}
    return dump_object({"jsonrpc": "2.0", "id": id, "error": body})


def error_frame(id: "int | str | None", error: LevityError) -> bytes:
    """Return the frame of a refusal."""
    return json_frame(error_body(id, error))


def parse_request(body: bytes) -> Request:
    """Return the request in a frame's body; ProtocolError if it is no JSON, InvalidRequest if it is no request."""
    return _request(parse_object(body))


def parse_reply(body: bytes) -> Reply:
    """Return the reply in a frame's body; ProtocolError if it is none."""
    return _reply(parse_object(body))


def parse_answer(body: bytes) -> Request | Reply:
    """Return the server's message in a frame's body: a notification (a Request without id), or a reply."""
    value = parse_object(body)
    if "method" not in value:
        return _reply(value)
    try:
        return _request(value)
    except InvalidRequest as error:
        raise ProtocolError(error.message) from None


def _request(value: "JsonObject") -> Request:
    id_, method, params = value.get("id"), value.get("method"), value.get("params", {})
    if value.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(params, dict):
        raise InvalidRequest("a message is not a JSON-RPC 2.0 request with named parameters")
    if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, int | str)):
        raise InvalidRequest("a request's id is neither a number nor a string")
    return Request(id_, method, params)


def _reply(value: "JsonObject") -> Reply:
    id_, error = value.get("id"), value.get("error")
    if isinstance(error, dict) and isinstance(error.get("code"), int) and isinstance(error.get("message"), str):
        return Reply(id_, {}, from_wire(error["code"], error["message"]))
    result = value.get("result")
    if error is not None or not isinstance(result, dict):
        raise ProtocolError("a message is neither a result nor an error")
    return Reply(id_, result)
