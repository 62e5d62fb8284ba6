"""Envelopes: the frames between front-end and engine. Runs in: front-end, engine. Owns: nothing. Never: does I/O.

An envelope is a frame of a kind that no client may send. Its body is:

| bytes | meaning |
|---|---|
| 1 | flags; bit 0: a descriptor goes along. Other bits are ignored |
| 4 | length of the head, big-endian |
| that many | the head: a JSON object |
| the rest | a message (levity/protocol/messages.py) |

The head's `do` says what to do with the message, so that a later version can add others:

* `pass`: serve a client's request, byte for byte as it came; `ticket` is that client's.
* `ask`: serve a request of the front-end's own, which may ask for more than clients can; `ticket`, if there is one, is
  that of the client on whose behalf it asks.
* `reply`: take the answer to the request of that `number`; `error` is its code if it is a refusal.

An envelope with an unknown `do` is ignored, and so are unknown keys of a head. The flag for the descriptor stands
outside the head: an envelope that is not understood claims its own descriptor, so that the next one does not get it.
"""

import json

from levity.errors import ProtocolError
from levity.protocol.frames import FRAME_LIMIT, FrameDecoder
from levity.protocol.messages import dump_object
from supervisor.spool.records import JsonObject

__all__ = ["Envelope", "carries_descriptor", "envelope_decoder", "envelope_frame", "open_envelope"]

_KIND = 16
_DESCRIPTOR = 0x01
_FIXED_BYTES = 5
# A ticket has all groups of its user, of which Linux allows 65 536.
_HEAD_LIMIT = 1024 * 1024
# A client's largest request fits in.
_FRAME_LIMIT = FRAME_LIMIT + _FIXED_BYTES + _HEAD_LIMIT


class Envelope:
    """One envelope: the fields of its head, and the message in it."""

    __slots__ = ("body", "do", "error", "number", "ticket")

    def __init__(self, do: str, number: int, body: bytes, *, ticket: str = "", error: int | None = None) -> None:
        self.do = do
        self.number = number
        self.ticket = ticket
        self.error = error
        self.body = body

    def __repr__(self) -> str:
        return f"<Envelope {self.do} {self.number}, {len(self.body)} B>"


def envelope_decoder() -> FrameDecoder:
    """Return a decoder of this pipe's frames: any other kind, or more than the limit, breaks the stream."""
    return FrameDecoder(_FRAME_LIMIT, frozenset({_KIND}))


def envelope_frame(envelope: Envelope, *, has_fd: bool = False) -> bytes:
    """Return the frame of an envelope."""
    facts: JsonObject = {"do": envelope.do, "number": envelope.number}
    if envelope.ticket:
        facts["ticket"] = envelope.ticket
    if envelope.error is not None:
        facts["error"] = envelope.error
    head = dump_object(facts)
    length = 1 + _FIXED_BYTES + len(head) + len(envelope.body)
    start = length.to_bytes(4, "big") + bytes((_KIND, _DESCRIPTOR if has_fd else 0)) + len(head).to_bytes(4, "big")
    return b"".join((start, head, envelope.body))


def carries_descriptor(frame_body: bytes) -> bool:
    """Whether a descriptor came with this frame, whatever else is in it."""
    return bool(frame_body) and bool(frame_body[0] & _DESCRIPTOR)


def open_envelope(frame_body: bytes) -> Envelope:
    """Return the envelope in a frame's body; ProtocolError where it is not understood."""
    end = _FIXED_BYTES + int.from_bytes(frame_body[1:_FIXED_BYTES], "big")
    if len(frame_body) < _FIXED_BYTES or end > min(len(frame_body), _FIXED_BYTES + _HEAD_LIMIT):
        raise ProtocolError("an envelope's head is cut off, or too long")
    facts = _parse_head(frame_body[_FIXED_BYTES:end])
    do, number, ticket, error = facts.get("do"), facts.get("number"), facts.get("ticket", ""), facts.get("error")
    if not isinstance(do, str) or not isinstance(ticket, str) or not _is_whole(number):
        raise ProtocolError("an envelope's head does not say what to do, with which number, for whom")
    if error is not None and not _is_whole(error):
        raise ProtocolError("an envelope's error is no number")
    return Envelope(do, facts["number"], frame_body[end:], ticket=ticket, error=error)


def _parse_head(head: bytes) -> JsonObject:
    # Not as strict as with a client's message, and three times as fast: each request and each reply has a head.
    try:
        facts = json.loads(head.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProtocolError("an envelope's head is not valid JSON") from None
    if not isinstance(facts, dict):
        raise ProtocolError("an envelope's head is not a JSON object")
    return facts


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
