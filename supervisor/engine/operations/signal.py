"""task.signal: ask a task to end. Runs in: engine. Owns: nothing."""

from supervisor.engine.access.audit_log import note
from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.context import Context
from supervisor.engine.operations.params import grace_of
from supervisor.engine.tasks.live_task import Answer
from supervisor.security.roles import Right
from supervisor.spool.records import JsonObject

__all__ = ["signal"]


def signal(context: Context, client: Client, params: JsonObject, answer: Answer) -> None:
    grace_s = grace_of(params)
    task_id = context.find(client, Right.ACT, params)
    note(context.audit, client, "task.signal", task_id)
    task = context.tasks.live.get(task_id)
    if task is None:
        answer(context.lookup.record(task_id))  # It is over already.
    else:
        context.tasks.signal(task, grace_s, answer)
