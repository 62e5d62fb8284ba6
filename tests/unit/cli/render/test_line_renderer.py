"""How `levity logs` cuts chunks into lines: nothing is lost, split or made up. Runs in: pytest."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from levity import LogChunk
from levity.cli.render.line_renderer import HELD_LIMIT_BYTES, LineRenderer
from tests.support.fake_server import ID

# 2026-11-24T09:41:02.000000005Z
T = 1_795_513_262 * 10**9 + 5


chunks = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.text("ab\n", max_size=12).map(str.encode) | st.integers(1, 9),
        st.integers(0, 3),
    ),
    max_size=20,
)


def rendered(
    feed: Callable[[LogChunk], bytes], pieces: list[tuple[str, "bytes | int", int]]
) -> list[tuple[str, bytes]]:
    result = []
    for stream, what, time_ns in pieces:
        data, dropped = (b"", what) if isinstance(what, int) else (what, 0)
        result.append((stream, feed(LogChunk(ID, stream, time_ns, data, (0, 0), dropped))))
    return result


@given(chunks, st.sampled_from([0, 3, HELD_LIMIT_BYTES]))
def test_lines_without_heads_are_the_bytes_however_they_are_cut(
    pieces: list[tuple[str, "bytes | int", int]], limit: int
) -> None:
    renderer = LineRenderer(timestamps=False, prefix=False, held_limit_bytes=limit)
    written = rendered(renderer.feed, pieces) + list(renderer.finish())
    for name in ("stdout", "stderr"):
        given_bytes = b"".join(what for stream, what, _ in pieces if stream == name and isinstance(what, bytes))
        assert b"".join(data for stream, data in written if stream == name) == given_bytes


@given(chunks)
def test_each_line_has_the_time_of_its_first_byte(pieces: list[tuple[str, "bytes | int", int]]) -> None:
    pieces = [piece for piece in pieces if isinstance(piece[1], bytes)]
    renderer = LineRenderer(timestamps=True, prefix=True)
    parts = rendered(renderer.feed, pieces)
    assert all(data.endswith(b"\n") for _, data in parts if data), "a line was split"
    parts += list(renderer.finish())
    for name, short in (("stdout", "out"), ("stderr", "err")):
        came = [(byte, time_ns) for stream, what, time_ns in pieces if stream == name for byte in bytes(what)]
        expected, at_start = b"", True
        for byte, time_ns in came:
            if at_start:
                time = b"1970-01-01T00:00:00.%09dZ" % time_ns if time_ns else b"----------T--:--:--.---------Z"
                expected += b"%s 3f2a9c1e %s " % (time, short.encode())
            expected += bytes([byte])
            at_start = byte == ord("\n")
        assert b"".join(data for stream, data in parts if stream == name) == expected


def test_a_long_line_is_passed_on_in_pieces_with_one_head() -> None:
    renderer = LineRenderer(timestamps=False, prefix=True)
    piece = b"x" * 40_000

    def feed(data: bytes) -> bytes:
        return renderer.feed(LogChunk(ID, "stdout", T, data, (0, 0)))

    assert feed(piece) == b""
    assert feed(piece) == b"3f2a9c1e out " + piece + piece
    assert feed(piece) == piece
    assert feed(b"y\nz\n") == b"y\n3f2a9c1e out z\n"
