"""The frame codec: whole, byte by byte, with a tail, and with garbage. Runs in: pytest."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.errors import ProtocolError
from levity.protocol.frames import (
    FRAME_LIMIT,
    JSON,
    NEED_DATA,
    STDERR,
    STDOUT,
    Frame,
    FrameDecoder,
    chunk_head,
    json_frame,
)

bodies = st.binary(max_size=200)
json_frames = st.builds(Frame, st.just(JSON), bodies)
times = st.integers(0, 2**64 - 1)
output_frames = st.builds(Frame, st.sampled_from([STDOUT, STDERR]), bodies, times)
some_frames = st.lists(json_frames | output_frames, max_size=8)


def encode(frame: Frame) -> bytes:
    if frame.kind == JSON:
        return json_frame(frame.body)
    return chunk_head(frame.kind, frame.time_ns, len(frame.body)) + frame.body


def decode(chunks: Iterable[bytes], decoder: FrameDecoder | None = None) -> list[Frame]:
    decoder = decoder or FrameDecoder()
    found = []
    for chunk in chunks:
        decoder.feed(chunk)
        while isinstance(frame := decoder.next_frame(), Frame):
            found.append(frame)
        assert frame is NEED_DATA
    return found


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@given(some_frames)
def test_whole(frames: list[Frame]) -> None:
    assert decode([b"".join(map(encode, frames))]) == frames


@given(some_frames)
def test_byte_by_byte(frames: list[Frame]) -> None:
    assert decode(single_bytes(b"".join(map(encode, frames)))) == frames


@given(some_frames, st.lists(st.integers(1, 50)))
def test_cut_anywhere(frames: list[Frame], cuts: list[int]) -> None:
    data, chunks = b"".join(map(encode, frames)), []
    for cut in cuts:
        chunks.append(data[:cut])
        data = data[cut:]
    assert decode([*chunks, data]) == frames


@given(some_frames, json_frames | output_frames, st.data())
def test_a_tail_waits_for_the_rest(frames: list[Frame], last: Frame, data: st.DataObject) -> None:
    wire = encode(last)
    cut = data.draw(st.integers(0, len(wire) - 1))
    decoder = FrameDecoder()
    assert decode([b"".join(map(encode, frames)) + wire[:cut]], decoder) == frames
    assert decoder.pending == cut
    assert decode([wire[cut:]], decoder) == [last]
    assert decoder.pending == 0


@given(st.binary(max_size=400))
def test_garbage_is_frames_or_a_protocol_error(data: bytes) -> None:
    outcomes = []
    for chunks in ([data], single_bytes(data)):
        try:
            outcomes.append(decode(chunks))
        except ProtocolError:
            outcomes.append([])
    # An error after some frames loses them here, so only clean runs are compared.
    assert not all(outcomes) or outcomes[0] == outcomes[1]


def head(length: int, kind: int = JSON) -> bytes:
    return length.to_bytes(4, "big") + bytes((kind,))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(head(0), "a frame of 0 bytes", id="no byte"),
        pytest.param(head(FRAME_LIMIT + 1), "the limit is", id="longer than the limit"),
        pytest.param(b"HTTP/1.1 400 Bad Request", "the limit is", id="an HTTP server"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2", "the limit is", id="an SSH server"),
        pytest.param(head(5, kind=3), "unknown kind 3", id="kind 3"),
        pytest.param(head(5, kind=255), "unknown kind 255", id="kind 255"),
        pytest.param(head(9, kind=STDOUT)[:5] + bytes(8) + b"", None, id="output of no byte is one"),
        pytest.param(head(8, kind=STDOUT) + bytes(7), "without its time", id="output without its time"),
    ],
)
def test_bytes_that_are_no_frame(data: bytes, why: str | None) -> None:
    if why is None:
        assert decode([data]) == [Frame(STDOUT, b"")]
        return
    with pytest.raises(ProtocolError, match=why):
        decode([data])


def test_a_large_length_is_refused_before_its_bytes_come() -> None:
    decoder = FrameDecoder(limit=100)
    decoder.feed((101).to_bytes(4, "big"))
    with pytest.raises(ProtocolError):
        decoder.next_frame()
    assert decoder.pending == 0


def test_the_limit_itself_is_allowed() -> None:
    assert decode([json_frame(b"x" * 99)], FrameDecoder(limit=100)) == [Frame(JSON, b"x" * 99)]


def test_a_broken_stream_stays_broken() -> None:
    decoder = FrameDecoder()
    decoder.feed(head(0))
    for _ in range(3):
        with pytest.raises(ProtocolError, match="0 bytes"):
            decoder.next_frame()
        decoder.feed(json_frame(b"{}"))


def test_telling_reprs() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"abc")
    assert repr(decoder) == "<FrameDecoder 3 B pending>"
    assert repr(Frame(STDERR, b"abc", 7)) == "<Frame kind=2 3 B>"
    assert repr(NEED_DATA) == "NEED_DATA"
    assert Frame(JSON, b"") != "a frame"
