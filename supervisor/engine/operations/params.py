"""Check the parameters of requests. Runs in: engine. Owns: nothing. Never: does I/O."""

from levity.errors import InvalidRequest
from levity.protocol.limits import PAGE_LIMIT, WAIT_IDS_LIMIT
from levity.start_options import FIELDS, StartOptions, check_grace
from supervisor.spool.layout import is_task_id
from supervisor.spool.records import JsonObject

__all__ = ["check_start", "grace_of", "page_of", "prefix_of", "wait_of"]

_WAIT_LIMIT_S = 3600.0


def check_start(params: JsonObject, log_cap: int) -> tuple[str, StartOptions]:
    """Return the id and the options of the task that a task.start asks for; InvalidRequest says what is wrong.

    `log_cap` is how many bytes of its output are kept if the request does not say so itself.
    """
    if unknown := set(params) - {"id", *FIELDS}:
        raise InvalidRequest(f"unknown parameter {min(unknown)!r}")
    task_id = params.get("id")
    if not isinstance(task_id, str) or not is_task_id(task_id):
        raise InvalidRequest("the task's id is not a UUID in lower case")
    return task_id, StartOptions.from_request(params, log_cap=log_cap)


def grace_of(params: JsonObject) -> float | None:
    """Return the grace period in seconds that a signal asks for, None if it asks for none."""
    value = params.get("grace_s")
    return None if value is None else float(check_grace(value))


def _flag(params: JsonObject, name: str) -> bool:
    value = params.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name!r} is neither true nor false")
    return value


def prefix_of(params: JsonObject) -> str:
    """Return the id, or the start of one, that a request is about, in lower case."""
    return _prefix(params.get("id"))


def _prefix(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest("the task's id is missing")
    return value.lower()


def page_of(params: JsonObject) -> tuple[bool, str | None, int]:
    """Return (only live tasks, cursor, how many) of a task.list."""
    everything, after, limit = _flag(params, "all"), params.get("after"), params.get("limit", PAGE_LIMIT)
    if after is not None and not isinstance(after, str):
        raise InvalidRequest("'after' is not what 'next' of the reply before was")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise InvalidRequest("'limit' is not a whole number")
    return not everything, after, max(1, min(limit, PAGE_LIMIT))


def wait_of(params: JsonObject) -> tuple[list[str], bool, float]:
    """Return (ids or the starts of them, whether one is enough, seconds) of the front-end's task.wait."""
    ids, within_s = params.get("ids"), params.get("within_s")
    if not isinstance(ids, list) or not 1 <= len(ids) <= WAIT_IDS_LIMIT:
        raise InvalidRequest(f"'ids' is not a list of 1 to {WAIT_IDS_LIMIT} ids")
    if isinstance(within_s, bool) or not isinstance(within_s, int | float) or not 0 <= within_s <= _WAIT_LIMIT_S:
        raise InvalidRequest(f"'within_s' is not a number of seconds from 0 to {_WAIT_LIMIT_S:.0f}")
    return [_prefix(one) for one in ids], _flag(params, "any"), float(within_s)
