"""Points in time as text. Runs in: client, engine. Owns: nothing. Never: reads a clock."""

from time import gmtime, strftime

__all__ = ["NS", "rfc3339"]

# Nanoseconds in a second.
NS = 1_000_000_000


def rfc3339(time_ns: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339 has them: UTC, nine digits of a second, always 30 characters."""
    seconds, rest_ns = divmod(time_ns, NS)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(seconds))}.{rest_ns:09}Z"
