"""Read parts of a certificate (RFC 5280) in DER. Runs in: client, arbiter, front-end. Owns: nothing. Never: I/O.

Python's ssl tells names and dates of a verified certificate, but not what the certificate may be used for.
"""

__all__ = ["BOOLEAN", "SEQUENCE", "extensions", "fields", "value", "values"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    # Where a value's contents begin and end.
    Span = tuple[int, int]

SEQUENCE, BOOLEAN = 0x30, 0x01
_EXTENSIONS = 0xA3


def value(der: bytes, at: int) -> "tuple[int, Span]":
    """Return the tag of the value at `at`, and the place of its contents; ValueError if the value is cut."""
    if at + 2 > len(der):
        raise ValueError("not a certificate")
    length, start = der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length, start = int.from_bytes(der[start : start + octets], "big"), start + octets
    if start + length > len(der):
        raise ValueError("not a certificate")
    return der[at], (start, start + length)


def values(der: bytes, span: "Span") -> "Iterator[tuple[int, Span]]":
    """Yield tag and place of each value between the ends of `span`."""
    at, end = span
    while at < end:
        tag, inner = value(der, at)
        yield tag, inner
        at = inner[1]


def fields(certificate: bytes) -> "list[tuple[int, Span]]":
    """Return the three fields of a Certificate: the signed part, the algorithm, the signature."""
    tag, span = value(certificate, 0)
    found = list(values(certificate, span))
    if tag != SEQUENCE or len(found) != 3:
        raise ValueError("not a certificate")
    return found


def extensions(certificate: bytes) -> dict[bytes, bytes]:
    """Return a certificate's extensions: object identifier to content, both without tag and length."""
    found = {}
    for tag, span in values(certificate, fields(certificate)[0][1]):
        if tag != _EXTENSIONS:
            continue
        for _tag, extension in values(certificate, value(certificate, span[0])[1]):
            parts = list(values(certificate, extension))
            if len(parts) < 2:
                raise ValueError("not a certificate")
            (_, oid), (_, content) = parts[0], parts[-1]
            found[certificate[slice(*oid)]] = certificate[slice(*content)]
    return found
