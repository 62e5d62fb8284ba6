"""Envelopes: what goes in comes out, what makes no sense is told, and no client's frame is one."""

import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.errors import ProtocolError
from levity.protocol.frames import FRAME_LIMIT, NEED_DATA, Frame, FrameDecoder, json_frame
from supervisor.ipc.envelope import Envelope, carries_descriptor, envelope_decoder, envelope_frame, open_envelope

numbers = st.integers(-(2**70), 2**70)
envelopes = st.builds(
    Envelope,
    st.sampled_from(["pass", "ask", "reply", "resize", ""]),
    numbers,
    st.binary(max_size=200),
    ticket=st.text(max_size=50),
    error=st.none() | numbers,
)


def facts(envelope: Envelope) -> tuple[object, ...]:
    return (envelope.do, envelope.number, envelope.ticket, envelope.error, envelope.body)


def frames(data: bytes, piece: int) -> list[Frame]:
    """Return the frames in what comes in pieces of that size."""
    decoder, found = envelope_decoder(), []
    for start in range(0, len(data), piece):
        decoder.feed(data[start : start + piece])
        while isinstance(frame := decoder.next_frame(), Frame):
            found.append(frame)
    assert not decoder.pending
    return found


@given(st.lists(st.tuples(envelopes, st.booleans()), max_size=5), st.sampled_from([1, 3, 10**6]))
def test_envelopes_come_as_they_were_sent(sent: list[tuple[Envelope, bool]], piece: int) -> None:
    data = b"".join(envelope_frame(envelope, has_fd=has_fd) for envelope, has_fd in sent)
    came = frames(data, piece)
    assert [(facts(open_envelope(frame.body)), carries_descriptor(frame.body)) for frame in came] == [
        (facts(envelope), has_fd) for envelope, has_fd in sent
    ]


def wrapped(head: bytes, body: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(head)) + head + body


def test_keys_of_a_later_levity_are_ignored() -> None:
    head = json.dumps({"do": "ask", "number": 7, "version": 9, "more": {"x": []}}).encode()
    envelope = open_envelope(wrapped(head, b"{}", flags=0xFE))
    assert facts(envelope) == ("ask", 7, "", None, b"{}")
    assert not carries_descriptor(wrapped(head, flags=0xFE))
    assert carries_descriptor(wrapped(head, flags=0xFF))


HEADS: list[Any] = [
    [],
    {},
    {"do": "ask"},
    {"number": 1},
    {"do": None, "number": 1},
    {"do": "ask", "number": True},
    {"do": "ask", "number": 1.0},
    {"do": "ask", "number": "1"},
    {"do": "ask", "number": 1, "ticket": None},
    {"do": "reply", "number": 1, "error": "40"},
    {"do": "reply", "number": 1, "error": False},
]


@pytest.mark.parametrize("head", HEADS, ids=json.dumps)
def test_a_head_that_makes_no_sense(head: object) -> None:
    with pytest.raises(ProtocolError):
        open_envelope(wrapped(json.dumps(head).encode()))


@given(st.binary(max_size=60) | st.tuples(st.binary(max_size=40), st.binary(max_size=9)).map(lambda x: wrapped(*x)))
def test_anything_else_is_not_understood_and_nothing_worse(body: bytes) -> None:
    carries_descriptor(body)
    with suppress(ProtocolError):
        open_envelope(body)


def test_a_head_is_bounded_although_a_frame_has_room() -> None:
    head = json.dumps({"do": "ask", "number": 1, "ticket": "x" * 2**20}).encode()
    with pytest.raises(ProtocolError, match="too long"):
        open_envelope(wrapped(head))


def test_the_largest_request_and_the_longest_ticket_fit_in() -> None:
    envelope = Envelope("pass", 2**63, b"x" * (FRAME_LIMIT - 1), ticket="x" * 1_000_000)
    (frame,) = frames(envelope_frame(envelope), 2**18)
    assert facts(open_envelope(frame.body)) == facts(envelope)


def test_no_client_may_send_one_and_no_client_frame_is_one() -> None:
    for_clients = FrameDecoder()
    for_clients.feed(envelope_frame(Envelope("pass", 1, b"{}")))
    with pytest.raises(ProtocolError, match="unknown kind"):
        for_clients.next_frame()
    for kind in (0, 1, 2, 3, 255):
        decoder = envelope_decoder()
        decoder.feed(struct.pack(">IBQ", 9, kind, 0))
        with pytest.raises(ProtocolError, match="unknown kind"):
            decoder.next_frame()
    decoder = envelope_decoder()
    decoder.feed(json_frame(b"")[:4])
    assert decoder.next_frame() is NEED_DATA
