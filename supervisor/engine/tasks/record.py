"""The record of a task as clients get it. Runs in: engine. Owns: nothing. Never: does I/O."""

from levity.states import State
from levity.timestamps import rfc3339
from supervisor.engine.tasks.phase import Phase
from supervisor.spool.layout import DISK_ERROR_BYTE, NO_SPACE_BYTE
from supervisor.spool.records import ExitRecord, JsonObject, ShimRecord, Spec

__all__ = ["BRIEF", "make_brief", "make_record"]

# The part of a record that a wait is answered with.
BRIEF = ("id", "state", "exit_code", "signal", "reason")

# By the byte of its lock that the shim holds.
_WAITING = {
    NO_SPACE_BYTE: "no space left for its output in levityd's state directory: it goes on when there is room",
    DISK_ERROR_BYTE: "the disk of levityd's state directory fails to take its output (see the host's kernel log): "
    "it goes on when that can be written again",
}


def make_brief(task_id: str, state: State, outcome: ExitRecord | None) -> JsonObject:
    """Return what a client that waits for a task gets: the state, and how it ended."""
    brief: JsonObject = {"id": task_id, "state": state, "exit_code": None, "signal": None, "reason": ""}
    if outcome is not None:
        brief.update(exit_code=outcome.exit_code, signal=outcome.signal, reason=outcome.reason)
    return brief


def make_record(spec: Spec, phase: Phase, ran: ShimRecord | ExitRecord | None, blocked: int = 0) -> JsonObject:
    """Return a task's record (docs/protocol.md): its options, its phase, and what shim.json or exit.json says.

    `blocked` is the byte of its lock by which the shim says why output cannot be stored, 0 while it can.
    """
    outcome = ran if isinstance(ran, ExitRecord) else None
    record = {
        **make_brief(spec.id, phase.state, outcome),
        "phase": phase.shown,
        **spec.options.to_json(),
        "waiting": _WAITING.get(blocked),
        # Tasks without an owner are levityd's own.
        "owner": spec.owner,
        "user": None if spec.run_as is None else spec.run_as.name,
        "accepted_at": _rfc3339(spec.accepted_ns),
        **_NOT_RUN,
        **_NOT_OVER,
    }
    if ran is not None:
        record |= _course(ran)
        if ran.grace_s is not None:
            record["grace_s"] = ran.grace_s
    if outcome is not None:
        record |= _end(outcome)
    return record


def _course(ran: ShimRecord | ExitRecord) -> JsonObject:
    return {
        "pid": ran.task_pid,
        "shim_pid": ran.shim_pid,
        "started_at": _rfc3339(ran.started_ns),
        "signalled_at": _rfc3339(ran.signalled_ns),
    }


def _end(outcome: ExitRecord) -> JsonObject:
    sizes = {"stdout_bytes": outcome.stdout_bytes, "stderr_bytes": outcome.stderr_bytes}
    return sizes | {"ended_at": _rfc3339(outcome.ended_ns)}


_NOT_RUN = dict.fromkeys(("pid", "shim_pid", "started_at", "signalled_at"))
_NOT_OVER = dict.fromkeys(("ended_at", "stdout_bytes", "stderr_bytes"))


def _rfc3339(time_ns: int | None) -> str | None:
    return None if time_ns is None else rfc3339(time_ns)
