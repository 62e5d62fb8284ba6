"""Proofs over a token: HMACs of both nonces and the binding, each good for one side only. Runs in: pytest."""

import hmac
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.channel_binding import endpoint_binding
from levity.errors import InvalidRequest
from levity.protocol.token_proof import (
    KEY_BYTES,
    NONCE_BYTES,
    client_proof,
    format_token,
    is_nonce_of,
    is_same,
    make_nonce,
    parse_token,
    server_proof,
)

KEYS = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
NONCES = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
TALKS = st.tuples(NONCES, NONCES, st.binary(max_size=40))


def mac(key: bytes, *fields: bytes) -> bytes:
    return hmac.digest(key, b"".join(len(field).to_bytes(4, "big") + field for field in fields), "sha256")


@given(KEYS, TALKS)
def test_proofs_are_what_the_standard_library_says(key: bytes, talk: tuple[bytes, bytes, bytes]) -> None:
    assert server_proof(key, *talk) == mac(key, b"levity 1 server", *talk)
    assert client_proof(key, *talk) == mac(key, b"levity 1 client", *talk)


@pytest.mark.parametrize("length", [0, 1, KEY_BYTES, 64])
def test_a_key_of_any_length_up_to_a_block(length: int) -> None:
    key = bytes(range(length))
    assert server_proof(key, b"", b"", b"") == mac(key, b"levity 1 server", b"", b"", b"")


@given(KEYS, TALKS, TALKS)
def test_a_proof_is_for_one_side_of_one_dialogue(
    key: bytes, one: tuple[bytes, bytes, bytes], other: tuple[bytes, bytes, bytes]
) -> None:
    assert server_proof(key, *one) != client_proof(key, *one)
    if one != other:
        assert server_proof(key, *one) != server_proof(key, *other)
        assert client_proof(key, *one) != client_proof(key, *other)
    # No field can take bytes from the next one.
    assert client_proof(key, one[0], one[1], b"x" + one[2]) != client_proof(key, one[0], one[1] + b"x", one[2])


@given(KEYS, KEYS, st.integers(0, NONCE_BYTES * 8 - 1))
def test_only_the_same_key_recognises_its_nonce(key: bytes, other: bytes, bit: int) -> None:
    nonce = make_nonce(key)
    assert len(nonce) == NONCE_BYTES
    assert is_nonce_of(key, nonce)
    assert is_nonce_of(other, nonce) == (other == key)
    flipped = (int.from_bytes(nonce, "big") ^ 1 << bit).to_bytes(NONCE_BYTES, "big")
    assert not is_nonce_of(key, flipped)
    assert not is_nonce_of(key, nonce[:-1])
    assert make_nonce(key) != nonce


@given(KEYS)
def test_a_token_is_read_as_it_is_written(key: bytes) -> None:
    token = format_token(key)
    assert set(token) <= set(string.ascii_lowercase + string.digits + "_")
    assert parse_token(f" {token}\n") == key


def read(text: str) -> bytes | str:
    """Return the key, or the message of the error."""
    try:
        return parse_token(text)
    except InvalidRequest as error:
        return error.message


@given(st.text() | st.builds("levity_{}".format, st.text(alphabet="0123456789abcdef ", max_size=70)))
def test_a_text_that_is_no_token_is_refused_and_not_quoted(text: str) -> None:
    found = read(text)
    if isinstance(found, bytes):
        assert len(found) == KEY_BYTES
        assert format_token(found) == text.strip().lower()
    else:
        assert len(text.strip()) < 8 or text.strip() not in found


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_is_same(one: bytes, other: bytes) -> None:
    assert is_same(one, bytes(bytearray(one)))
    assert is_same(one, other) == (one == other)


def test_bindings_of_different_endpoints_differ() -> None:
    places = [("127.0.0.1", 4321), ("127.0.0.1", 432), ("127.0.0.1", 43211), ("127.0.0.2", 4321), ("::1", 4321)]
    assert len({endpoint_binding(*place) for place in places}) == len(places)
