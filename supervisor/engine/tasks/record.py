"""The record of a task as clients get it. Runs in: engine. Owns: nothing. Never: does I/O."""

from levity.states import State
from levity.timestamps import rfc3339
from supervisor.spool.layout import DISK_ERROR_BYTE, NO_SPACE_BYTE
from supervisor.spool.records import JsonObject

__all__ = ["make_brief", "make_record"]

# On the wire -> in the records on disk.
_TIMES = {"started_at": "started_ns", "signalled_at": "signalled_ns", "ended_at": "ended_ns"}
# By the byte of its lock that the shim holds.
_WAITING = {
    NO_SPACE_BYTE: "no space left for its output in levityd's state directory: it goes on when there is room",
    DISK_ERROR_BYTE: "the disk of levityd's state directory fails to take its output (see the host's kernel log): "
    "it goes on when that can be written again",
}


def make_brief(task_id: str, state: State, facts: JsonObject) -> JsonObject:
    """Return what whoever waits for a task is told: the state, and how it ended."""
    return {
        "id": task_id,
        "state": state,
        "exit_code": facts.get("exit_code"),
        "signal": facts.get("signal"),
        "reason": facts.get("reason", ""),
    }


def make_record(spec: JsonObject, state: State, facts: JsonObject, blocked: int = 0) -> JsonObject:
    """Return the record: what was asked, the state, and the facts from shim.json or exit.json (docs/protocol.md).

    `blocked` is the byte of its lock by which the shim says why output cannot be stored, 0 while it can.
    """
    record = {
        **make_brief(spec["id"], state, facts),
        "waiting": _WAITING.get(blocked),
        "argv": spec["argv"],
        "cwd": spec["cwd"],
        "env": spec["env"],
        "grace_s": facts.get("grace_s", spec["grace_s"]),
        # A spec of an older levity has none of these. Tasks without an owner are levityd's own.
        "owner": spec.get("owner"),
        "user": (spec.get("run_as") or {}).get("name"),
        "stdin": spec.get("stdin", False),
        "merged": spec.get("merged", False),
        "log_cap": spec.get("log_cap", 0),
        "pid": facts.get("task_pid"),
        "shim_pid": facts.get("pid"),
        "accepted_at": _rfc3339(spec.get("accepted_ns")),
    }
    record.update({name: _rfc3339(facts.get(key)) for name, key in _TIMES.items()})
    record.update({name: facts.get(name) for name in ("stdout_bytes", "stderr_bytes")})
    return record


def _rfc3339(time_ns: int | None) -> str | None:
    return None if time_ns is None else rfc3339(time_ns)
