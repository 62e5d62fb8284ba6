"""What there is to know of a certificate without the means to make one. Runs in: arbiter. Owns: nothing. Never: I/O."""

import base64
import calendar
import hashlib
import re
import time

__all__ = ["ends_at", "fingerprint"]

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


def fingerprint(pem: bytes) -> str:
    """Return the SHA-256 of the first certificate, as openssl x509 -fingerprint writes it; ValueError."""
    digest = hashlib.sha256(_first(pem)).hexdigest().upper()
    return ":".join(digest[n : n + 2] for n in range(0, len(digest), 2))


def ends_at(pem: bytes) -> float:
    """Return when the first certificate ends (RFC 5280, 4.1.2.5: notAfter), in seconds since 1970; ValueError."""
    der = _first(pem)
    try:
        start, _end = _inside(der, 0, _SEQUENCE)  # Certificate
        at, _end = _inside(der, start, _SEQUENCE)  # tbsCertificate
        if der[at] == _VERSION:
            at = _after(der, at)
        for _field in ("serialNumber", "signature", "issuer"):
            at = _after(der, at)
        not_before, _end = _inside(der, at, _SEQUENCE)  # validity
        return _time(der, _after(der, not_before))
    except (IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError("not a certificate") from error


def _first(pem: bytes) -> bytes:
    found = _CERTIFICATE.search(pem)
    if found is None:
        raise ValueError("not a certificate")
    return base64.b64decode(found[1])


def _time(der: bytes, at: int) -> float:
    start, end = _inside(der, at, der[at])
    text = der[start:end].decode("ascii")
    if der[at] == _UTC_TIME:
        # RFC 5280, 4.1.2.5.1: two digits of the year, from 1950 to 2049.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif der[at] != _GENERALIZED_TIME:
        raise ValueError("not a time")
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))


def _after(der: bytes, at: int) -> int:
    return _inside(der, at, der[at])[1]


def _inside(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return where the contents of the DER value at `at` begin and end."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length, start = int.from_bytes(der[start : start + octets], "big"), start + octets
    if der[at] != tag or start + length > len(der):
        raise ValueError("not a certificate")
    return start, start + length
