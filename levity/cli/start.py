"""`levity start`: run a command on the host and print its task's id. Runs in: client. Owns: nothing."""

from levity.cli.options import HELP, Option, Parsed
from levity.cli.output import ReaderGone, print_error, write_text
from levity.client import Client
from levity.errors import InvalidRequest, LevityError
from levity.protocol.messages import dump_object

__all__ = ["OPTIONS", "TASK_OPTIONS", "TaskOption", "run", "task_of"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO
    from typing import Any


class TaskOption(Option):
    """An option that says something of a task: `read(parsed)` is what Client.submit takes as `keyword`.

    Without them it is a flag that has the name of its keyword.
    """

    __slots__ = ("keyword", "read")

    def __init__(
        self,
        name: str,
        short: str = "",
        takes: str = "",
        keyword: str = "",
        read: "Callable[[Parsed], object] | None" = None,
    ) -> None:
        super().__init__(name, short, takes)
        self.keyword = keyword or name.replace("-", "_")
        self.read = read or (lambda parsed: parsed.has(name))


def _directory(parsed: Parsed) -> str | None:
    cwd = parsed.last("directory")
    if cwd == "":
        raise parsed.usage_error("--directory is empty")
    return cwd


def _definitions(parsed: Parsed) -> dict[str, str]:
    env = {}
    for text in parsed.every("define"):
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise parsed.usage_error(f"-D takes NAME=VALUE, not {text!r}")
        env[name] = value
    return env


def _log_cap(parsed: Parsed) -> int | None:
    text = parsed.last("log-cap")
    if text is None:
        return None
    from levity.sizes import check_log_cap, parse_size

    try:
        return check_log_cap(parse_size(text))
    except InvalidRequest as error:
        raise parsed.usage_error(f"--log-cap: {error.message}") from None


# What a task is to be, for `start` and `run`.
_TASK = (
    TaskOption("directory", "d", "DIR", "cwd", _directory),
    TaskOption("define", "D", "NAME=VALUE", "env", _definitions),
    TaskOption("grace", "", "SECONDS", "grace_s", lambda parsed: parsed.seconds("grace")),
    TaskOption("merged"),
    TaskOption("log-cap", "", "SIZE", read=_log_cap),
    TaskOption("user", "", "NAME", read=lambda parsed: parsed.last("user")),
)
TASK_OPTIONS = (*_TASK, Option("stdin", "", "FILE"))
OPTIONS = (*TASK_OPTIONS, Option("json"), HELP)


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    task = task_of(parsed)
    name = parsed.last("stdin")
    if name is None:
        record = client.submit(**task)
    else:
        from levity.cli.stdin_file import open_stdin_file

        with open_stdin_file(name) as file:
            record = client.submit(**task, stdin=True)
            _upload(client, record.id, file)
    try:
        write_text((dump_object(record.raw).decode() if parsed.has("json") else record.id) + "\n")
    except LevityError as error:
        if not isinstance(error, ReaderGone):
            error.message += f"; the id of the task, which runs, is {record.id}"
        raise
    return 0


def task_of(parsed: Parsed) -> "dict[str, Any]":
    """Return what is to be started as Client.submit takes it."""
    if not parsed.words:
        raise parsed.usage_error("no command to start was given")
    return {"argv": parsed.words} | {option.keyword: option.read(parsed) for option in _TASK}


def _upload(client: Client, task_id: str, file: "FileIO") -> None:
    """Send all of the file to the task, which runs already; a failure says what becomes of the task."""
    waits = f"task {task_id} goes on and waits for the rest of its input; `levity signal {task_id}` ends it"
    try:
        client.write_stdin(task_id, file)
    except OSError as error:
        raise LevityError(f"cannot read the input: {error.strerror}; {waits}") from error
    except LevityError as error:
        error.message += f"; {waits}"
        raise
    except KeyboardInterrupt:
        print_error(waits)
        raise
