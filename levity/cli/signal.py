"""`levity signal`: ask a task to end. Runs in: client. Owns: nothing."""

from levity.cli.options import HELP, Option, Parsed
from levity.client import Client

__all__ = ["OPTIONS", "run"]

OPTIONS = (Option("grace", "", "SECONDS"), HELP)


def run(parsed: Parsed, client: Client) -> int:
    """Run the command; it prints nothing."""
    client.signal(parsed.only_word("task id"), parsed.seconds("grace"))
    return 0
