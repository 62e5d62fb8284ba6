"""task.start: accept a task, and start it once however often that is asked. Runs in: engine. Owns: nothing."""

import time

from levity.errors import Conflict
from supervisor.engine.access.audit_log import note
from supervisor.engine.access.run_as import run_as
from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.context import Context
from supervisor.engine.operations.lookup import record_of
from supervisor.engine.operations.params import check_start, user_of
from supervisor.engine.tasks.live_task import Answer
from supervisor.spool.records import JsonObject

__all__ = ["start"]


def start(context: Context, client: Client, params: JsonObject, answer: Answer) -> None:
    spec = check_start(params, time.time_ns(), context.log_cap)
    who = client.principal
    spec["owner"] = who.user
    spec["run_as"] = run_as(who, user_of(params), context.authenticator.own_user, context.authenticator.frontend_uid)
    row = context.registry.get(spec["id"])
    if row is None:
        note(context.audit, client, "task.start", spec["id"], spec["argv"])
        context.tasks.start(spec, answer)
        return
    if _differs(row.spec, spec, context.lookup.owner_of(row.spec)):
        error = Conflict(f"the id {spec['id']} is in use for another command")
        note(context.audit, client, "task.start", spec["id"], spec["argv"], refused=error.message)
        raise error
    task = context.tasks.live.get(row.id)
    if task is None:
        answer(record_of(row))
    else:
        context.tasks.start_again(task, answer)


def _differs(known: JsonObject, asked: JsonObject, owner: str) -> bool:
    """Whether a start with an id that is in use asks for something else."""
    if owner != asked["owner"] or any(known[key] != asked[key] for key in ("argv", "cwd", "env")):
        return True
    if any(known.get(key, False) != asked[key] for key in ("stdin", "merged")):
        return True
    return _uid_of(known) != _uid_of(asked)


def _uid_of(spec: JsonObject) -> int | None:
    identity = spec.get("run_as")
    return None if identity is None else identity["uid"]
