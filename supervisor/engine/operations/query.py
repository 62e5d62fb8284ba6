"""task.query: what is known of a task. Runs in: engine. Owns: nothing."""

from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.context import Context
from supervisor.engine.tasks.live_task import Answer
from supervisor.security.roles import Right
from supervisor.spool.records import JsonObject

__all__ = ["query"]


def query(context: Context, client: Client, params: JsonObject, answer: Answer) -> None:
    answer(context.lookup.record(context.find(client, Right.SEE, params)))
