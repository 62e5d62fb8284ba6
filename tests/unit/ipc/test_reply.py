"""Replies: never larger than a frame, whatever is in them."""

import json

import pytest

from levity.errors import Forbidden, InternalError
from levity.protocol.frames import FRAME_LIMIT, Frame, FrameDecoder, json_frame
from levity.protocol.messages import parse_reply, result_body
from supervisor.ipc.reply import reply_body


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_reply_at_the_limit(over: int) -> None:
    room = FRAME_LIMIT - 1 - len(result_body("id", {"x": ""}))
    body = reply_body("id", {"x": "x" * (room + over)})
    decoder = FrameDecoder()
    decoder.feed(json_frame(body))
    frame = decoder.next_frame()
    assert isinstance(frame, Frame)
    reply = parse_reply(frame.body)
    assert reply.id == "id"
    assert isinstance(reply.error, InternalError) == (over > 0)
    assert "\n" not in str(reply.error)


def test_an_id_that_fills_a_frame_is_left_out() -> None:
    for answer in ({"x": 1}, Forbidden("no")):
        reply = json.loads(reply_body("\u00e9" * 4_000_000, answer))
        assert (reply["id"], reply["error"]["code"]) == (None, InternalError.code)


def test_any_other_reply_is_what_it_was() -> None:
    assert json.loads(reply_body(7, {"a": 1})) == {"jsonrpc": "2.0", "id": 7, "result": {"a": 1}}
    refused = {"jsonrpc": "2.0", "id": None, "error": {"code": 5, "message": "no"}}
    assert json.loads(reply_body(None, Forbidden("no"))) == refused
