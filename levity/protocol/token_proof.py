"""How client and server prove to each other that they hold the same token. Runs in: client, engine. Owns: nothing.

Never: does I/O. A token is a key of 256 bits. The client sends a nonce: a server that has the key recognises the token
by it; to anybody else the nonce is random. The server answers with its proof, and the client, once it has checked that,
with its own. Both proofs are HMAC-SHA256 (RFC 2104) over both nonces and the `binding` of the connection: the server's
address, or its certificate. So a proof is worth nothing on another connection, and an attacker between two ends with
different bindings can pass none on.
"""

import os
from _operator import _compare_digest as compare_digest  # hmac.compare_digest, without the 7 ms of hmac

from levity.errors import InvalidRequest

# Python's own SHA-256, by its names in 3.11 and later: hashlib and hmac load OpenSSL, 5 ms of the 35 that
# `levity query` may take.
try:
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:
    try:
        from _sha2 import sha256  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha256

__all__ = [
    "KEY_BYTES",
    "NONCE_BYTES",
    "client_proof",
    "format_token",
    "is_nonce_of",
    "is_same",
    "make_nonce",
    "parse_token",
    "server_proof",
]

KEY_BYTES = 32
NONCE_BYTES = 32

_PREFIX = "levity_"
_RANDOM_BYTES = 16
# Of SHA-256.
_BLOCK_BYTES = 64


def format_token(key: bytes) -> str:
    """Return a token as text: `levity_` and 64 hexadecimal digits."""
    return _PREFIX + key.hex()


def parse_token(text: str) -> bytes:
    """Return the key of a token; for another text InvalidRequest, which does not quote it."""
    text = text.strip()
    digits = text.removeprefix(_PREFIX)
    try:
        key = bytes.fromhex(digits) if text.startswith(_PREFIX) and text.isascii() else b""
    except ValueError:
        key = b""
    # fromhex() skips spaces between digits.
    if len(key) != KEY_BYTES or len(digits) != 2 * KEY_BYTES:
        raise InvalidRequest(f"that is no token: one is {_PREFIX!r} and {2 * KEY_BYTES} hexadecimal digits")
    return key


def make_nonce(key: bytes) -> bytes:
    """Return a client's nonce: 16 random bytes, and their MAC by the key, 16 bytes of it."""
    random = os.urandom(_RANDOM_BYTES)
    return random + _tag(key, random)


def is_nonce_of(key: bytes, nonce: bytes) -> bool:
    """Whether a client's nonce was made with this key."""
    return len(nonce) == NONCE_BYTES and is_same(_tag(key, nonce[:_RANDOM_BYTES]), nonce[_RANDOM_BYTES:])


def server_proof(key: bytes, server_nonce: bytes, client_nonce: bytes, binding: bytes) -> bytes:
    """Return the proof to the client that the server has the key: 32 bytes."""
    return _mac(key, b"levity 1 server", server_nonce, client_nonce, binding)


def client_proof(key: bytes, server_nonce: bytes, client_nonce: bytes, binding: bytes) -> bytes:
    """Return the proof to the server that the client has the key: 32 bytes."""
    return _mac(key, b"levity 1 client", server_nonce, client_nonce, binding)


def is_same(one: bytes, other: bytes) -> bool:
    """Compare in a time that does not tell where both differ."""
    return bool(compare_digest(one, other))


def _tag(key: bytes, random: bytes) -> bytes:
    return _mac(key, b"levity 1 nonce", random)[:_RANDOM_BYTES]


def _mac(key: bytes, *fields: bytes) -> bytes:
    # Each field with its length, so that two lists of fields never make the same message.
    message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    # RFC 2104, for a key of at most one block; a test compares it with hmac's.
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(_BLOCK_BYTES, b"\0")) for pad in (0x36, 0x5C))
    return bytes(sha256(outer + sha256(inner + message).digest()).digest())
