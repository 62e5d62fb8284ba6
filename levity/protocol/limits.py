"""What levityd takes in one request, once for both sides. Runs in: client, engine, front-end. Owns: nothing.

The limits of frames are in `frames`, those of JSON in `messages`: each process has these loaded anyway.
"""

__all__ = [
    "GRACE_LIMIT_S",
    "HEARTBEAT_DEFAULT_S",
    "HEARTBEAT_LEAST_S",
    "HEARTBEAT_LIMIT_S",
    "PAGE_LIMIT",
    "POSITION_LIMIT",
    "STDIN_DATA_LIMIT",
    "STDIN_UNREAD_LIMIT",
    "WAIT_IDS_LIMIT",
    "WAIT_LIMIT_S",
]

# A week: longer than any program needs to end, and a shim keeps this time for as long.
GRACE_LIMIT_S = 7 * 24 * 3600

# The ids of one task.wait: each costs the engine a lookup, all of them in one go.
WAIT_IDS_LIMIT = 1000
# About thirty years: a float of seconds is exact enough there, and no monotonic clock reaches it.
WAIT_LIMIT_S = 1e9

# `heartbeat_s`: more often than the least, a thread of the front-end would do nothing else; longer than the limit, an
# hour, few routers remember a silent connection.
HEARTBEAT_LEAST_S, HEARTBEAT_DEFAULT_S, HEARTBEAT_LIMIT_S = 0.05, 10.0, 3600.0

# The records in one page of task.list: so many are made before the engine turns to the next request.
PAGE_LIMIT = 500

# A position in a stream (what off_t holds), and a time in nanoseconds since the epoch: the year 2262.
POSITION_LIMIT = 2**63 - 1

# The bytes in one task.stdin, which the engine holds in memory, in base64 and decoded.
STDIN_DATA_LIMIT = 1024 * 1024
# The bytes of input that are stored unread where a client names no limit: enough for a task never to wait for them.
STDIN_UNREAD_LIMIT = 16 * 1024 * 1024
