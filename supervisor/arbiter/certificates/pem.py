"""Read fingerprint and end of a certificate with the standard library. Runs in: arbiter. Owns: nothing. Never: I/O."""

import base64
import calendar
import hashlib
import re
import time

from levity.der import fields, values

__all__ = ["ends_at", "fingerprint"]

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0


def fingerprint(pem: bytes) -> str:
    """Return the SHA-256 of the first certificate, as openssl x509 -fingerprint writes it; ValueError."""
    digest = hashlib.sha256(_first(pem)).hexdigest().upper()
    return ":".join(digest[n : n + 2] for n in range(0, len(digest), 2))


def ends_at(pem: bytes) -> float:
    """Return when the first certificate ends (RFC 5280, 4.1.2.5: notAfter), in seconds since 1970; ValueError."""
    der = _first(pem)
    try:
        signed = [(tag, span) for tag, span in values(der, fields(der)[0][1]) if tag != _VERSION]
        # serialNumber, signature, issuer, validity
        _not_before, (tag, span) = values(der, signed[3][1])
        return _time(tag, der[slice(*span)].decode("ascii"))
    except (IndexError, UnicodeDecodeError, OverflowError, ValueError) as error:
        raise ValueError("not a certificate") from error


def _first(pem: bytes) -> bytes:
    found = _CERTIFICATE.search(pem)
    if found is None:
        raise ValueError("not a certificate")
    return base64.b64decode(found[1])


def _time(tag: int, text: str) -> float:
    if tag == _UTC_TIME:
        # RFC 5280, 4.1.2.5.1: two digits of the year, from 1950 to 2049.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a time")
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))
