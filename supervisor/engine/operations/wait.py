"""task.wait: answer once tasks are over. Runs in: engine. Owns: nothing."""

from levity.errors import LevityError
from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.context import Context
from supervisor.engine.operations.params import wait_of
from supervisor.engine.tasks.live_task import Answer
from supervisor.engine.tasks.waits import Wait
from supervisor.security.roles import Right
from supervisor.spool.records import JsonObject

__all__ = ["wait"]


def wait(context: Context, client: Client, params: JsonObject, answer: Answer) -> None:
    prefixes, one_is_enough, within_s = wait_of(params)
    ids = [context.lookup.find(client.principal, Right.SEE, prefix) for prefix in prefixes]
    live = {task_id: context.tasks.live[task_id] for task_id in ids if task_id in context.tasks.live}
    over = {task_id: context.lookup.brief(task_id) for task_id in ids if task_id not in live}
    token = str(params.get("token", ""))

    def answer_once(result: JsonObject | LevityError) -> None:
        context.waits.pop(token, None)
        answer(result)

    one = context.waits[token] = Wait(ids, over, live, one_is_enough=one_is_enough, answer=answer_once)
    one.begin(context.loop, within_s)
