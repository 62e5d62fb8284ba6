"""task.wait: wait for the end of tasks on behalf of a client. Runs in: front-end, a thread each. Owns: nothing.

The engine answers when the tasks are over. When the client leaves, the engine is told so. In case that does not arrive,
the engine is asked for a minute at a time.
"""

import os
import time

from levity.errors import InvalidRequest
from levity.protocol.limits import WAIT_LIMIT_S
from supervisor.frontend.client_socket import ClientSocket, heartbeat_of
from supervisor.frontend.engine_client import EngineClient
from supervisor.spool.records import JsonObject

__all__ = ["ENGINE_S", "wait"]

# How long the engine may take to answer before the client is told so (docs/protocol.md, error 30).
ENGINE_S = 60.0
_SLICE_S = 60.0


def wait(client: ClientSocket, engine: EngineClient, params: JsonObject, ticket: str) -> JsonObject:
    """Answer a task.wait of the client with this ticket; OSError when it has left."""
    heartbeat_s = heartbeat_of(params)
    timeout_s = params.get("timeout_s")
    if timeout_s is None:
        timeout_s = WAIT_LIMIT_S
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or timeout_s < 0:
        raise InvalidRequest("'timeout_s' is not a number of seconds")
    give_up_at = time.monotonic() + min(timeout_s, WAIT_LIMIT_S)
    asked = {"ids": params.get("ids"), "any": params.get("any", False), "token": os.urandom(8).hex()}

    def left_s() -> float:
        return max(0.0, min(_SLICE_S, give_up_at - time.monotonic()))

    def wait_readable(fd: int, at_most_s: float) -> bool:
        return client.wait(fd, heartbeat_s, at_most_s)

    try:
        while True:
            # Computed each time it is sent: an engine that dies has it sent again.
            answer = engine.call(
                "task.wait", lambda: asked | {"within_s": left_s()}, left_s() + ENGINE_S, wait_readable, ticket=ticket
            )
            if answer["done"] or time.monotonic() >= give_up_at:
                return answer
            # The beginning of an id may fit more tasks by now.
            asked["ids"] = [task["id"] for task in answer["tasks"]]
    except OSError:
        engine.tell("task.unwait", {"token": asked["token"]})
        raise
