"""`levity info`: which levityd answers, and who one is to it. Runs in: client. Owns: nothing."""

from levity.cli.options import HELP, Option, Parsed
from levity.cli.output import printable, write_text
from levity.client import Client
from levity.protocol.messages import dump_object

__all__ = ["OPTIONS", "run"]

OPTIONS = (Option("json"), HELP)


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    parsed.no_words()
    answer = {"address": str(client.address)} | client.info()
    if parsed.has("json"):
        write_text(dump_object(answer).decode() + "\n")
    else:
        write_text("".join(printable(f"{name}: {value}") + "\n" for name, value in answer.items()))
    return 0
