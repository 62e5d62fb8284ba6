"""task.stdin: store input, and tell the task's shim. Runs in: engine. Owns: nothing."""

from levity.errors import InvalidRequest
from supervisor.engine.access.audit_log import note
from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.context import Context
from supervisor.engine.storage.stdin_spool import parse_input, store_input
from supervisor.engine.tasks.live_task import Answer
from supervisor.engine.tasks.shim_control import send_command
from supervisor.engine.tasks.start_errors import host_error
from supervisor.security.roles import Right
from supervisor.spool.commands import STDIN
from supervisor.spool.records import JsonObject

__all__ = ["stdin"]


_FEEDERS_LIMIT = 1024


def stdin(context: Context, client: Client, params: JsonObject, answer: Answer) -> None:
    """Store input and tell the task's shim. One that is over reads no more, and that is no error."""
    piece = parse_input(params)
    task_id = context.find(client, Right.ACT, params)
    if not context.lookup.record(task_id)["stdin"]:
        raise InvalidRequest(f"task {task_id} was started without an input to send to")
    if (feeder := (client.ticket, task_id)) not in context.feeders:
        # Once for each connection and task, not for each piece.
        note(context.audit, client, "task.stdin", task_id)
        context.feeders[feeder] = None
        while len(context.feeders) > _FEEDERS_LIMIT:
            del context.feeders[next(iter(context.feeders))]
    try:
        reply = store_input(task_id, piece)
    except OSError as error:
        raise host_error(error.errno or 0, "the input cannot be stored") from error
    task = context.tasks.live.get(task_id)
    if task is not None and "full" not in reply:
        send_command(task_id, task.commands, STDIN)
    answer(reply)
