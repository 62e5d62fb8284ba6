"""`levity start`: run a command on the host, print its task's id. Runs in: client. Owns: nothing."""

from levity.cli.options import HELP, Option, Parsed
from levity.cli.output import write_text
from levity.client import Client
from levity.protocol.messages import dump_object

__all__ = ["OPTIONS", "run"]

OPTIONS = (
    Option("directory", "d", "DIR"),
    Option("define", "D", "NAME=VALUE"),
    Option("grace", "", "SECONDS"),
    Option("json"),
    HELP,
)


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    if not parsed.words:
        raise parsed.usage_error("no command to start was given")
    cwd = parsed.last("directory")
    if cwd == "":
        raise parsed.usage_error("--directory is empty")
    record = client.submit(parsed.words, cwd, _definitions(parsed), parsed.seconds("grace"))
    write_text((dump_object(record.raw).decode() if parsed.has("json") else record.id) + "\n")
    return 0


def _definitions(parsed: Parsed) -> dict[str, str]:
    env = {}
    for text in parsed.every("define"):
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise parsed.usage_error(f"-D takes NAME=VALUE, not {text!r}")
        env[name] = value
    return env
