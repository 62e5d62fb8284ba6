"""task.start: accept a task. A start that is sent again starts nothing twice. Runs in: engine. Owns: nothing."""

import time

from levity.errors import Conflict
from supervisor.engine.access.audit_log import note
from supervisor.engine.access.run_as import run_as
from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.context import Context
from supervisor.engine.operations.lookup import record_of
from supervisor.engine.operations.params import check_start
from supervisor.engine.tasks.live_task import Answer
from supervisor.spool.records import JsonObject, Spec

__all__ = ["start"]


def start(context: Context, client: Client, params: JsonObject, answer: Answer) -> None:
    task_id, options = check_start(params, context.log_cap)
    who, authenticator = client.principal, context.authenticator
    spec = Spec(
        task_id,
        options,
        owner=who.user,
        run_as=run_as(who, options.user, authenticator.own_user, authenticator.frontend_uid),
        accepted_ns=time.time_ns(),
        boot_id=context.tasks.boot_id,
    )
    row = context.registry.get(task_id)
    if row is None:
        note(context.audit, client, "task.start", task_id, options.argv)
        context.tasks.start(spec, answer)
        return
    if context.lookup.owner_of(row.spec) != spec.owner or not _asks_for_the_same(row.spec, spec):
        error = Conflict(f"the id {task_id} is in use for another command")
        note(context.audit, client, "task.start", task_id, options.argv, refused=error.message)
        raise error
    task = context.tasks.live.get(task_id)
    if task is None:
        answer(record_of(row))
    else:
        context.tasks.start_again(task, answer)


def _asks_for_the_same(known: Spec, asked: Spec) -> bool:
    """Whether a start may be one that was accepted before, sent again."""
    return known.options.asks_for_the_same(asked.options) and _uid_of(known) == _uid_of(asked)


def _uid_of(spec: Spec) -> int | None:
    return None if spec.run_as is None else spec.run_as.uid
