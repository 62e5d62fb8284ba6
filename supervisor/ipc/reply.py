"""Replies that a client can take. Runs in: front-end, engine. Owns: nothing. Never: does I/O."""

from levity.errors import InternalError, LevityError
from levity.protocol.frames import FRAME_LIMIT
from levity.protocol.messages import error_body, result_body
from supervisor.spool.records import JsonObject

__all__ = ["reply_body"]


def reply_body(id: int | str | None, answer: JsonObject | LevityError) -> bytes:
    """Return a reply to the request with this id, which fits into one frame.

    One that would not is an error of one line instead: the client's decoder would refuse the frame and hang up.
    """
    body = error_body(id, answer) if isinstance(answer, LevityError) else result_body(id, answer)
    if _fits(body):
        return body
    error = InternalError(f"the answer has {len(body)} bytes, and a frame holds {FRAME_LIMIT}")
    body = error_body(id, error)
    return body if _fits(body) else error_body(None, error)


def _fits(body: bytes) -> bool:
    return len(body) < FRAME_LIMIT  # A byte more is the frame's kind.
