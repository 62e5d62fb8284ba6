"""Bytes as text and back. Runs in: pytest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.errors import InvalidRequest
from levity.protocol.messages import dump_object, parse_object
from levity.protocol.text import bytes_to_text, text_to_bytes


def test_every_byte_value_passes_alone_and_in_company() -> None:
    for value in range(256):
        for raw in (bytes((value,)), b"a" + bytes((value,)) + "é".encode(), bytes((value,)) * 3):
            assert text_to_bytes(bytes_to_text(raw)) == raw


@given(st.binary())
def test_any_bytes_pass_through_json(raw: bytes) -> None:
    wire = dump_object({"value": bytes_to_text(raw)})
    assert text_to_bytes(parse_object(wire)["value"]) == raw


def test_utf8_reads_as_itself() -> None:
    assert bytes_to_text("naïve 日本".encode()) == "naïve 日本"


@pytest.mark.parametrize("code", [0xD800, 0xDC7F, 0xDD00, 0xDFFF])
def test_a_surrogate_that_stands_for_no_byte_is_refused(code: int) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        text_to_bytes(f"a{chr(code)}")
