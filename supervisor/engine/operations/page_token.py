"""The token with which a client asks for the next page of a list. Runs in: engine. Owns: nothing. Never: does I/O.

It is the number of a row in the registry, which would tell how many tasks all users have: so clients get it encrypted.
A client that changes one gains nothing: a list shows what its user may see, wherever it goes on.
"""

import hmac
import os

from levity.errors import InvalidRequest

__all__ = ["open_page_token", "seal_page_token"]

_BYTES = 8


def seal_page_token(key: bytes, number: int) -> str:
    """Return a token: a random nonce, and the number under the keystream that HMAC-SHA256 makes of it; 32 digits."""
    nonce = os.urandom(_BYTES)
    return (nonce + _mix(key, nonce, number.to_bytes(_BYTES, "big"))).hex()


def open_page_token(key: bytes, token: str | None) -> int:
    """Return the number, 0 for None: from the first on. InvalidRequest if this engine cannot have made the token."""
    if token is None:
        return 0
    try:
        raw = bytes.fromhex(token)
    except ValueError:
        raw = b""
    if len(raw) != 2 * _BYTES:
        raise InvalidRequest("'after' is not what 'next' of the reply before was")
    # SQLite's numbers have a sign.
    return int.from_bytes(_mix(key, raw[:_BYTES], raw[_BYTES:]), "big") & (2**63 - 1)


def _mix(key: bytes, nonce: bytes, data: bytes) -> bytes:
    stream = hmac.digest(key, b"levity 1 cursor" + nonce, "sha256")
    return bytes(byte ^ mask for byte, mask in zip(data, stream, strict=False))
