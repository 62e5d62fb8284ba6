"""`levity logout`: forget the token for an address. Runs in: client. Owns: nothing."""

from levity.cli.login import needs_token
from levity.cli.options import HELP, Parsed
from levity.client import Client
from levity.errors import LevityError
from levity.transport.credentials import remove_token

__all__ = ["OPTIONS", "run"]

OPTIONS = (HELP,)


def run(parsed: Parsed, client: Client) -> int:
    """Run the command; it prints nothing."""
    parsed.no_words()
    needs_token(client)
    if remove_token(client.address) is None:
        raise LevityError(f"no token is stored for {client.address}; `levity -a ADDRESS` names another place")
    return 0
