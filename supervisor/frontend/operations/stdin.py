"""task.stdin: pass a piece of input on to the engine once there is room. Runs in: front-end, a thread each.

Owns: nothing. The engine stores the input. A client whose task does not read keeps its own thread waiting and no other.
"""

import os
from collections.abc import Callable

from levity.protocol.messages import parse_reply
from supervisor.frontend.client_socket import ClientSocket, heartbeat_of
from supervisor.hostos.inotify import Inotify, descriptor_path
from supervisor.spool.records import JsonObject

__all__ = ["stdin"]

# How often to look for room on a full disk, or where inotify does not work.
_RETRY_S = 0.25


def stdin(
    client: ClientSocket, inotify: Inotify, params: JsonObject, store: Callable[[], bytes], borrow: Callable[[], int]
) -> bytes:
    """Have a piece stored and return the reply, once there is room for it; OSError when the client is gone.

    `store()` has the engine store it. The task makes room as it reads, in its directory, which `borrow()` opens.
    """
    heartbeat_s = heartbeat_of(params)
    reply = store()
    if not _what_is_full(reply):
        return reply
    directory_fd = borrow()
    try:
        with inotify.watch(descriptor_path(directory_fd)) as watch:
            while True:
                is_armed = watch.arm()
                reply = store()
                if not (full := _what_is_full(reply)):
                    return reply
                client.wait(watch.fd, heartbeat_s, _RETRY_S if full == "disk" or not is_armed else None)
                watch.clear()
    finally:
        os.close(directory_fd)


def _what_is_full(reply: bytes) -> object:
    """Return why there is no room for the piece ("limit" or "disk"); None if it is stored, or refused."""
    return parse_reply(reply).result.get("full")
