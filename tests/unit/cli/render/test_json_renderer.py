"""How `levity logs --json` cuts chunks into objects: nothing is lost, split or made up. Runs in: pytest."""

import base64
import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from levity import LogChunk
from levity.cli.render.json_renderer import JsonRenderer
from tests.support.fake_server import ID


def objects(text: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def rendered(renderer: JsonRenderer, pieces: list["bytes | int"], times: list[int] | None = None) -> bytes:
    """Return what becomes of pieces of stdout: bytes, or how many were dropped."""
    lines = b""
    for piece, time_ns in zip(pieces, times or [0] * len(pieces), strict=True):
        data, dropped = (b"", piece) if isinstance(piece, int) else (piece, 0)
        lines += renderer.feed(LogChunk(ID, "stdout", time_ns, data, (0, 0), dropped))
    return lines + b"".join(renderer.finish())


def test_a_character_cut_twice_has_the_time_of_its_first_byte() -> None:
    euro = "€".encode()
    (item,) = objects(rendered(JsonRenderer(), [euro[at : at + 1] for at in range(3)], [1, 2, 3]))
    assert item == {"task": ID, "stream": "stdout", "time": "1970-01-01T00:00:00.000000001Z", "text": "€"}


@given(
    st.lists(
        st.text(min_size=1, max_size=4).map(str.encode) | st.binary(min_size=1, max_size=4) | st.integers(1, 9),
        max_size=12,
    )
)
def test_json_has_every_byte_and_text_where_it_is_text(pieces: list["bytes | int"]) -> None:
    found = b""
    for item in objects(rendered(JsonRenderer(), pieces)):
        if "dropped" in item:
            found += b"?" * int(str(item["dropped"]))
        elif "text" in item:
            found += str(item["text"]).encode()
        else:
            found += base64.b64decode(str(item["base64"]))
    assert found == b"".join(b"?" * piece if isinstance(piece, int) else piece for piece in pieces)


@settings(max_examples=50)
@given(st.text(max_size=30), st.lists(st.integers(0, 90), max_size=6))
def test_text_stays_text_however_it_is_cut(text: str, cuts: list[int]) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    ends = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    items = objects(rendered(JsonRenderer(), [raw[start:end] for start, end in pairwise(ends)]))
    assert all("text" in item for item in items)
    assert "".join(str(item["text"]) for item in items) == text
