"""Check the parameters of requests. Runs in: engine. Owns: nothing. Never: does I/O."""

from levity.errors import InvalidRequest
from levity.protocol.text import text_to_bytes
from supervisor.spool.layout import is_task_id
from supervisor.spool.records import DEFAULT_GRACE_S, JsonObject

__all__ = ["check_start", "grace_of", "page_of", "prefix_of"]

_GRACE_LIMIT_S = 7 * 24 * 3600.0
_PAGE_LIMIT = 500
_START_KEYS = frozenset({"id", "argv", "cwd", "env", "grace_s"})


def check_start(params: JsonObject, now_ns: int) -> JsonObject:
    """Return the spec that a task.start asks for; InvalidRequest says what is wrong with it."""
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
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _GRACE_LIMIT_S:
        raise InvalidRequest(f"the grace period is not a number of seconds from 0 to {_GRACE_LIMIT_S:.0f}")
    return float(value)


def prefix_of(params: JsonObject) -> str:
    """Return the id, or the start of one, that a request is about, in lower case."""
    value = params.get("id")
    if not isinstance(value, str) or not value:
        raise InvalidRequest("the task's id is missing")
    return value.lower()


def page_of(params: JsonObject) -> tuple[bool, int, int]:
    """Return (only live tasks, cursor, how many) of a task.list."""
    everything, after, limit = params.get("all", False), params.get("after"), params.get("limit", _PAGE_LIMIT)
    if not isinstance(everything, bool):
        raise InvalidRequest("'all' is neither true nor false")
    after = 0 if after is None else after
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in (after, limit)):
        raise InvalidRequest("'after' and 'limit' are not whole numbers")
    return not everything, min(after, 2**62), max(1, min(limit, _PAGE_LIMIT))
