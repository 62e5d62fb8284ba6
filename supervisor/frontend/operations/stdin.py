"""Pass on what clients send to the standard input of tasks, once there is room. Runs in: front-end, a thread each.

Owns: nothing. The engine stores it. A client whose task does not read keeps its own thread waiting and nobody else.
"""

import os
from collections.abc import Callable

from supervisor.frontend.client_socket import Wire, heartbeat_of
from supervisor.hostos.inotify import Inotify, descriptor_path
from supervisor.spool.records import JsonObject

__all__ = ["store_input"]

# How often to look for room on a full disk, or where changes cannot be told.
_RETRY_S = 0.25


def store_input(
    wire: Wire, changes: Inotify, params: JsonObject, ask: Callable[[], JsonObject], borrow: Callable[[], int]
) -> JsonObject:
    """Have a piece stored and return the reply, once there is room for it; OSError when the client is gone.

    `ask()` has the engine store it. Room is made by the task's reading, in its directory, which `borrow()` opens.
    """
    heartbeat_s = heartbeat_of(params)
    reply = ask()
    if "full" not in reply:
        return reply
    directory_fd = borrow()
    try:
        with changes.watch(descriptor_path(directory_fd)) as watch:
            while True:
                is_armed = watch.arm()
                reply = ask()
                if not (full := reply.get("full")):
                    return reply
                wire.wait(watch.fd, heartbeat_s, _RETRY_S if full == "disk" or not is_armed else None)
                watch.clear()
    finally:
        os.close(directory_fd)
