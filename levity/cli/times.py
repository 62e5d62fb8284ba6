"""Times as people write them on the command line. Runs in: client. Owns: nothing. Never: does I/O."""

import re

from levity.operations.log_params import Moment
from levity.timestamps import NS

__all__ = ["FORMS", "parse_time"]

FORMS = "a time like 2026-11-24T09:41:02Z, seconds since the epoch, or so long ago: 90s, 10m, 2h, 3d"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_AGO = re.compile(r"(\d+)([smhd])", re.ASCII)
_EPOCH = re.compile(r"(\d{1,11})(?:\.(\d+))?", re.ASCII)
# RFC 3339, section 5.6: "T" and "Z" may be small, "T" may be a space.
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)?",
    re.ASCII,
)


def parse_time(text: str) -> Moment | None:
    """Return the moment that `text` means, None if it has none of the FORMS.

    A date without an offset is in this machine's local time.
    """
    if match := _AGO.fullmatch(text):
        return Moment(int(match[1]) * _UNITS[match[2]] * NS, ago=True)
    if match := _EPOCH.fullmatch(text):
        return Moment(int(match[1]) * NS + _fraction(match[2]))
    if match := _DATE.fullmatch(text):
        date, time, fraction, offset = match.groups()
        return _moment_of_date(f"{date}T{time}{(offset or '').upper()}", fraction)
    return None


def _moment_of_date(text: str, fraction: str | None) -> Moment | None:
    from datetime import datetime  # it takes 3 ms, and few logs are asked for by a date

    try:
        # Without the fraction, which a datetime would cut to microseconds. timestamp() takes a naive one as local time.
        return Moment(int(datetime.fromisoformat(text).timestamp()) * NS + _fraction(fraction))
    except (ValueError, OverflowError):
        return None


def _fraction(digits: str | None) -> int:
    return int((digits or "0")[:9].ljust(9, "0"))
