"""`levity logs`: a task's output, byte for byte, each stream to its own descriptor. Runs in: client. Owns: nothing."""

from levity.cli.options import HELP, Parsed
from levity.cli.output import STDERR, STDOUT, write
from levity.client import Client

__all__ = ["OPTIONS", "run"]

OPTIONS = (HELP,)

_DESCRIPTORS = {"stdout": STDOUT, "stderr": STDERR}


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    for stream, data in client.logs(parsed.only_word("task id")):
        write(_DESCRIPTORS[stream], data)
    return 0
