"""Frames of a log cut into pieces. Runs in: pytest."""

from hypothesis import given, settings
from hypothesis import strategies as st

from levity.protocol.frames import STDERR, STDOUT, Frame, FrameDecoder
from levity.protocol.log_decoder import WHOLE_BYTES, LogDecoder
from levity.protocol.messages import Request
from tests.support.fake_server import Entry, log_wire

logs = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.one_of(st.binary(max_size=30), st.integers(1, 20))), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(logs, st.lists(st.integers(1, 40), max_size=30), st.sampled_from([0, 20, WHOLE_BYTES]))
def test_pieces_are_the_frames_however_the_bytes_come(log: list[Entry], lengths: list[int], whole_bytes: int) -> None:
    """Against FrameDecoder, whole, byte by byte, and with a tail."""
    wire = log_wire(log, Request(1, "task.logs", {}))
    plain_decoder = FrameDecoder()
    plain_decoder.feed(wire)
    expected = []
    while isinstance(frame := plain_decoder.next_frame(), Frame):
        expected.append((frame.kind, frame.time_ns, frame.body))
    decoder = LogDecoder(whole_bytes)
    found: list[tuple[int, int, bytes]] = []
    rest = wire + b"\0\0"
    for length in [*lengths, *[1] * 5, len(rest)]:
        found += [(frame.kind, frame.time_ns, frame.body) for frame in decoder.feed(rest[:length])]
        rest = rest[length:]
    assert merged(found) == merged(expected)


def merged(frames: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Join neighbours of a stream: the cuts do not matter."""
    result: list[tuple[int, int, bytes]] = []
    for kind, time_ns, body in frames:
        if kind and not body:
            continue
        if kind and result and result[-1][:2] == (kind, time_ns):
            result[-1] = (kind, time_ns, result[-1][2] + body)
        else:
            result.append((kind, time_ns, body))
    return result
