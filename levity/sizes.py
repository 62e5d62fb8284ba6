"""Sizes in bytes, as people write them. Runs in: client, arbiter, engine. Owns: nothing."""

from levity.errors import InvalidRequest

__all__ = ["LOG_CAP_LEAST", "check_log_cap", "parse_size"]

# Less would be rotated away faster than a reader can read it.
LOG_CAP_LEAST = 1024 * 1024

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Fits a file's offset (off_t) and SQLite's integer.
_LIMIT = 2**62
# Far more digits than the limit has. Python refuses thousands of them with an error of its own.
_DIGITS_LIMIT = 32


def parse_size(text: str) -> int:
    """Return the bytes of a size like `500000`, `64K`, `1.5G` or `none` (0); InvalidRequest for another text."""
    word = text.strip()
    if word.lower() == "none":
        return 0
    unit = _UNITS.get(word[-1:].upper(), 1)
    whole, point, fraction = (word if unit == 1 else word[:-1]).partition(".")
    digits = whole + fraction
    is_number = digits.isascii() and digits.isdigit() and whole and (fraction or not point)
    if not is_number or len(digits) > _DIGITS_LIMIT or (point and unit == 1):
        raise InvalidRequest(
            f"{text[:64]!r} is no size: give a number of bytes, if need be with K, M, G or T behind it (1K is 1024), "
            "or `none` for no limit"
        )
    size: int = int(digits) * unit // 10 ** len(fraction)
    if size > _LIMIT:
        raise InvalidRequest(f"the size {text[:64]} is larger than any disk: `none` is no limit")
    return size


def check_log_cap(size: object) -> int:
    """Return a valid cap on a task's kept output, in bytes (0: no cap); InvalidRequest for another value."""
    if isinstance(size, bool) or not isinstance(size, int) or not (size == 0 or LOG_CAP_LEAST <= size <= _LIMIT):
        raise InvalidRequest(f"the log cap is neither 0 (none) nor at least {LOG_CAP_LEAST} bytes (1M)")
    return size
