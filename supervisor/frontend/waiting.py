"""Wait for the end of tasks on behalf of a client. Runs in: front-end, a thread each. Owns: nothing.

The engine tells when they are over. It is asked again every now and then, so that it need not keep for long what a
client that has left was waiting for.
"""

import time

from levity.errors import InvalidRequest
from supervisor.frontend.engine_link import EngineLink
from supervisor.frontend.wire import Wire, heartbeat_of
from supervisor.spool.records import JsonObject

__all__ = ["wait_for_tasks"]

_SLICE_S = 60.0
_ENGINE_S = 60.0
# 30 years: longer than any task, and no clock overflows.
_LONGEST_S = 1e9


def wait_for_tasks(wire: Wire, link: EngineLink, params: JsonObject) -> JsonObject:
    """Answer a task.wait; OSError when the client has left."""
    heartbeat_s = heartbeat_of(params)
    timeout_s = params.get("timeout_s")
    if timeout_s is None:
        timeout_s = _LONGEST_S
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or timeout_s < 0:
        raise InvalidRequest("'timeout_s' is not a number of seconds")
    give_up_at = time.monotonic() + min(timeout_s, _LONGEST_S)
    asked = {"ids": params.get("ids"), "any": params.get("any", False)}
    while True:
        within_s = max(0.0, min(_SLICE_S, give_up_at - time.monotonic()))
        answer = link.call(
            "task.wait",
            asked | {"within_s": within_s},
            within_s + _ENGINE_S,
            lambda fd, timeout_s: wire.wait(fd, heartbeat_s, timeout_s),
        )
        if answer["done"] or time.monotonic() >= give_up_at:
            return answer
        # The beginning of an id may fit more tasks by now.
        asked["ids"] = [task["id"] for task in answer["tasks"]]
