"""`levity logs`: what tasks wrote, byte for byte, or as lines with their times. Runs in: client. Owns: nothing."""

from levity.cli.options import HELP, Option, Parsed
from levity.cli.output import print_error, wait_readable
from levity.cli.render.printers import JsonPrinter, LinePrinter, OpenLines, PlainPrinter, Printer
from levity.client import Client
from levity.errors import IncompleteLog, RequestError

__all__ = ["OPTIONS", "run"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from levity.operations.log_params import Moment

OPTIONS = (
    Option("follow", "f"),
    Option("tail", "n", "N"),
    Option("since", "", "T"),
    Option("until", "", "T"),
    Option("timestamps", "t"),
    Option("stdout"),
    Option("stderr"),
    Option("prefix"),
    Option("json"),
    HELP,
)


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    if not parsed.words:
        raise parsed.usage_error("`levity logs` takes the id of a task, or several; none was given")
    wanted = _wanted(parsed)
    open_lines = OpenLines() if len(parsed.words) > 1 else None
    if parsed.has("follow") and len(parsed.words) > 1:
        from levity.cli.follow import follow_all  # threading takes time to import

        return follow_all(client, parsed.words, wanted, lambda: _printer(parsed, open_lines))
    code = 0
    for task_id in parsed.words:
        try:
            _copy(client, task_id, wanted, _printer(parsed, open_lines))
        except (RequestError, IncompleteLog) as error:
            if len(parsed.words) == 1:
                raise
            # Go on with the other tasks, as cat(1) does.
            print_error(f"{task_id}: {error.message}")
            code = code or error.exit_status
    return code


def _copy(client: Client, task_id: str, wanted: "dict[str, Any]", printer: "Printer") -> None:
    reader = client.open_log(task_id, **wanted)
    if wanted["follow"]:
        reader.on_wait = wait_readable
    try:
        for chunk in reader.chunks():
            printer.take(chunk)
    finally:
        printer.finish()


def _printer(parsed: Parsed, open_lines: OpenLines | None) -> "Printer":
    if parsed.has("json"):
        return JsonPrinter()
    timestamps, prefix = parsed.has("timestamps"), parsed.has("prefix")
    # One after the other, tasks are copied as cat(1) does it. At once, only whole lines keep them apart.
    if timestamps or prefix or (open_lines and parsed.has("follow")):
        return LinePrinter(timestamps, prefix, open_lines)
    return PlainPrinter()


def _wanted(parsed: Parsed) -> "dict[str, Any]":
    """Return the options of Client.logs."""
    streams = [name for name in ("stdout", "stderr") if parsed.has(name)]
    return {
        "follow": parsed.has("follow"),
        "tail": _tail(parsed),
        "since": _time(parsed, "since"),
        "until": _time(parsed, "until"),
        "streams": streams or None,
        "exact_times": parsed.has("timestamps") or parsed.has("json"),
    }


def _tail(parsed: Parsed) -> int | None:
    text = parsed.last("tail")
    if text is None or text == "all":
        return None
    # No log has more lines than that. Python refuses thousands of digits with an error of its own.
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    raise parsed.usage_error(f"-n takes a number of lines (of 18 digits at most) or `all`, not {text[:64]!r}")


def _time(parsed: Parsed, name: str) -> "Moment | None":
    text = parsed.last(name)
    if text is None:
        return None
    from levity.cli.times import FORMS, parse_time
    from levity.protocol.limits import POSITION_LIMIT

    moment = parse_time(text)
    if moment is None or not 0 <= moment.ns <= POSITION_LIMIT:
        raise parsed.usage_error(f"--{name} takes {FORMS}; not {text!r}")
    return moment
