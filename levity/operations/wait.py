"""task.wait: levityd answers when tasks are over. Runs in: client. Owns: nothing."""

from levity.errors import InvalidRequest, LevityError, ProtocolError
from levity.operations.log_params import heartbeat_s
from levity.protocol.limits import WAIT_IDS_LIMIT, WAIT_LIMIT_S
from levity.task import TaskRecord
from levity.transport.rpc import RpcClient

__all__ = ["WaitTimeout", "wait"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    JsonObject = dict[str, Any]


class WaitTimeout(LevityError):
    """The time of a `wait` is over, and its tasks are not. The client makes this error; it is never sent.

    `records` are the tasks' records at that time, in the order of the ids.
    """

    exit_status = 124

    def __init__(self, message: str, records: "Sequence[TaskRecord]" = ()) -> None:
        super().__init__(message)
        self.records = list(records)


def wait(client: RpcClient, ids: "str | Sequence[str]", timeout_s: float | None, any_of: bool) -> list[TaskRecord]:
    """Do the work of Client.wait."""
    names = _names(ids)
    end = None if timeout_s is None else client.clock.now() + _checked(timeout_s)

    def params() -> "JsonObject":
        left_s = None if end is None else max(end - client.clock.now(), 0.0)
        beat_s = heartbeat_s(client.timeout_s)
        return {"ids": names, "any": any_of, "timeout_s": left_s, "heartbeat_s": beat_s}

    answer = client.call("task.wait", params)
    # The answer has no whole records. These are younger than the answer, so they may know of more ends.
    records = [TaskRecord(client.call("task.query", {"id": task_id})) for task_id in _ids(answer, len(names))]
    ends = [record.state.is_end for record in records]
    if answer.get("done") is True or (any(ends) if any_of else all(ends)):
        return records
    raise WaitTimeout(_late(ends, timeout_s), records)


def _names(ids: "str | Sequence[str]") -> list[str]:
    names = [ids] if isinstance(ids, str) else list(ids)
    for name in names:
        if not isinstance(name, str) or not name:
            raise InvalidRequest(f"{name!r} is no task id: it is what `start` returned, or the beginning of that")
    if not 1 <= len(names) <= WAIT_IDS_LIMIT:
        raise InvalidRequest(f"a wait is for 1 to {WAIT_IDS_LIMIT} tasks, not {len(names)}")
    return names


def _checked(timeout_s: float) -> float:
    if isinstance(timeout_s, int | float) and 0 <= timeout_s <= WAIT_LIMIT_S:
        return timeout_s
    raise InvalidRequest(f"a wait of {timeout_s!r} s makes no sense; give a number from 0 to {WAIT_LIMIT_S:.0f}")


def _ids(answer: "JsonObject", count: int) -> list[str]:
    tasks = answer.get("tasks")
    if isinstance(tasks, list) and len(tasks) == count:
        ids = [task["id"] for task in tasks if isinstance(task, dict) and isinstance(task.get("id"), str)]
        if len(ids) == count:
            return ids
    raise ProtocolError("levityd did not say which tasks it waited for")


def _late(ends: list[bool], timeout_s: float | None) -> str:
    if len(ends) == 1:
        return f"the task is not over after {timeout_s:g} s"
    return f"{ends.count(False)} of {len(ends)} tasks are not over after {timeout_s:g} s"
