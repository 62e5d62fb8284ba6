"""Check the parameters of requests. Runs in: engine. Owns: nothing. Never: does I/O."""

from levity.errors import InvalidRequest
from levity.protocol.limits import GRACE_LIMIT_S, PAGE_LIMIT, WAIT_IDS_LIMIT
from levity.protocol.text import text_to_bytes
from levity.sizes import check_log_cap
from supervisor.spool.layout import is_task_id
from supervisor.spool.records import DEFAULT_GRACE_S, JsonObject

__all__ = ["check_start", "grace_of", "page_of", "prefix_of", "user_of", "wait_of"]

_WAIT_LIMIT_S = 3600.0
_START_KEYS = frozenset({"id", "argv", "cwd", "env", "grace_s", "stdin", "merged", "log_cap", "user"})


def check_start(params: JsonObject, now_ns: int, log_cap: int) -> JsonObject:
    """Return the spec that a task.start asks for; InvalidRequest says what is wrong with it.

    `log_cap` is how many bytes of its output are kept if it does not say so itself.
    """
    if unknown := set(params) - _START_KEYS:
        raise InvalidRequest(f"unknown parameter {min(unknown)!r}")
    task_id, argv = params.get("id"), params.get("argv")
    if not isinstance(task_id, str) or not is_task_id(task_id):
        raise InvalidRequest("the task's id is not a UUID in lower case")
    if not isinstance(argv, list) or not argv:
        raise InvalidRequest("the command is missing")
    for word in argv:
        _check_text(word, "an argument")
    cwd = params.get("cwd")
    if cwd is not None:
        _check_text(cwd, "the working directory")
    grace_s = grace_of(params)
    return {
        "id": task_id,
        "argv": argv,
        "cwd": cwd,
        "env": _check_environment(params.get("env", {})),
        "grace_s": DEFAULT_GRACE_S if grace_s is None else grace_s,
        "accepted_ns": now_ns,
        "stdin": _flag(params, "stdin"),
        "merged": _flag(params, "merged"),
        "log_cap": log_cap if params.get("log_cap") is None else check_log_cap(params["log_cap"]),
    }


def _check_text(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} is not a string")
    if b"\0" in text_to_bytes(value):
        raise InvalidRequest(f"{what} holds a NUL byte, which no program can be given")


def _check_environment(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidRequest("the environment is not an object of names and values")
    for name, text in value.items():
        _check_text(name, "an environment name")
        _check_text(text, f"the value of the environment name {name!r}")
        if not name or "=" in name:
            raise InvalidRequest(f"environment name {name!r}: a name is not empty and holds no '='")
    return value


def grace_of(params: JsonObject) -> float | None:
    """Return the grace period in seconds that was asked for, None if none was."""
    value = params.get("grace_s")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= GRACE_LIMIT_S:
        raise InvalidRequest(f"the grace period is not a number of seconds from 0 to {GRACE_LIMIT_S}")
    return float(value)


def user_of(params: JsonObject) -> str | None:
    """Return the name of the user that a task is to run as, None if the start names none."""
    value = params.get("user")
    if value is not None and (not isinstance(value, str) or not value or "\0" in value):
        raise InvalidRequest("'user' is not the name of a user")
    return value


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
