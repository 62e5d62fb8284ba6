"""`levity wait`: wait until tasks are over, and exit with their code. Runs in: client. Owns: nothing."""

from levity.cli.exit_codes import as_own_failure, exit_code_of
from levity.cli.options import HELP, Option, Parsed
from levity.cli.output import print_error, write_text
from levity.client import Client
from levity.errors import LevityError
from levity.operations.wait import WaitTimeout
from levity.states import State
from levity.task import TaskRecord

__all__ = ["OPTIONS", "run"]

OPTIONS = (Option("any"), Option("timeout", "", "SECONDS"), HELP)


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    if not parsed.words:
        raise parsed.usage_error("`levity wait` takes the id of a task, or several; none was given")
    try:
        records = _wait(parsed, client)
    except LevityError as error:
        raise as_own_failure(error) from error
    ended = next(record for record in records if record.state.is_end) if parsed.has("any") else records[-1]
    if ended.state is State.INTERNAL_SERVER_ERROR:
        print_error(f"task {ended.id}: {ended.reason}")
    return exit_code_of(ended)


def _wait(parsed: Parsed, client: Client) -> list[TaskRecord]:
    """Wait, and print a line for each task if there are several."""
    try:
        records = client.wait(parsed.words, parsed.seconds("timeout"), parsed.has("any"))
    except WaitTimeout as error:
        _print(error.records)
        raise
    _print(records)
    return records


def _print(records: list[TaskRecord]) -> None:
    if len(records) > 1:
        write_text("".join(f"{record.id} {record.state} {_code(record)}\n" for record in records))


def _code(record: TaskRecord) -> str:
    return "-" if record.exit_code is None else str(record.exit_code)
