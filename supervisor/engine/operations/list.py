"""task.list: a page of a user's tasks. Runs in: engine. Owns: nothing."""

from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.context import Context
from supervisor.engine.operations.params import page_of
from supervisor.engine.tasks.live_task import Answer
from supervisor.spool.records import JsonObject

__all__ = ["list_tasks"]


def list_tasks(context: Context, client: Client, params: JsonObject, answer: Answer) -> None:
    live_only, after, limit = page_of(params)
    answer(context.lookup.page(client.principal, after, limit, live_only=live_only))
