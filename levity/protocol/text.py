"""Bytes in JSON: UTF-8, with every other byte as U+DC80..U+DCFF (PEP 383). Runs in: every process. Owns: nothing.

Not os.fsencode(): that follows the locale, and both ends of a connection may have different locales.
"""

from levity.errors import InvalidRequest

__all__ = ["bytes_to_text", "text_to_bytes"]


def bytes_to_text(raw: bytes) -> str:
    """Return `raw` as text, of which `text_to_bytes` makes the same bytes again."""
    return raw.decode("utf-8", "surrogateescape")


def text_to_bytes(text: str) -> bytes:
    """Return the bytes that `text` stands for; InvalidRequest for a surrogate that stands for no byte."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidRequest("a text holds a surrogate outside U+DC80..U+DCFF, which stands for no byte") from None
