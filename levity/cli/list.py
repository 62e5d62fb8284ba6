"""`levity list`: a line for each task. Runs in: client. Owns: nothing."""

import shlex

from levity.cli.options import HELP, Option, Parsed
from levity.cli.output import write_text
from levity.client import Client
from levity.protocol.messages import dump_object
from levity.protocol.text import text_to_bytes
from levity.task import TaskRecord

__all__ = ["OPTIONS", "run", "shell_word"]

OPTIONS = (Option("all"), Option("json"), HELP)

# Fixed widths, so that each line is written as it comes: a UUID, the longest state, three digits, a time in seconds.
_LINE = "{:36}  {:19}  {:>4}  {:20}  {}\n"
_ESCAPES = {ord("\\"): "\\\\", ord("'"): "\\'", ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"}


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    parsed.no_words()
    as_json = parsed.has("json")
    # Held back until a record comes, so that an error stands alone.
    head = "" if as_json else _LINE.format("ID", "STATE", "CODE", "STARTED", "COMMAND")
    for record in client.list(parsed.has("all")):
        write_text(head + (dump_object(record.raw).decode() + "\n" if as_json else _line(record)))
        head = ""
    write_text(head)
    return 0


def _line(record: TaskRecord) -> str:
    code = "-" if record.exit_code is None else record.exit_code
    started = f"{record.started_at[:19]}Z" if record.started_at else "-"
    command = " ".join(map(shell_word, record.raw["argv"]))
    return _LINE.format(record.id, record.state, code, started, command)


def shell_word(text: str) -> str:
    """Return a word, in the text of the wire, as a shell reads it: quoted if needed, as $'...' if not printable."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(_shell_escape(char) for char in text) + "'"


def _shell_escape(char: str) -> str:
    if escape := _ESCAPES.get(ord(char)):
        return escape
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in text_to_bytes(char))
