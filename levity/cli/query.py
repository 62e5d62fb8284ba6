"""`levity query`: a task's state, and its exit code if Finished. Runs in: client. Owns: nothing."""

from levity.cli.options import HELP, Option, Parsed
from levity.cli.output import print_error, write_text
from levity.client import Client
from levity.protocol.messages import dump_object
from levity.states import State

__all__ = ["OPTIONS", "run"]

OPTIONS = (Option("json"), HELP)


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    record = client.query(parsed.only_word("task id"))
    if parsed.has("json"):
        write_text(dump_object(record.raw).decode() + "\n")
    elif record.state is State.FINISHED:
        write_text(f"{record.state}\n{record.exit_code}\n")
    else:
        write_text(f"{record.state}\n")
        if record.state is State.INTERNAL_SERVER_ERROR:
            print_error(record.reason)
        if record.waiting:
            print_error(f"it waits: {record.waiting}")
    return 0
