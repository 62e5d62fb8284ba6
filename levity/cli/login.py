"""`levity login`: store the token for an address after levityd has accepted it. Runs in: client. Owns: nothing."""

import os
import sys

from levity.cli.options import HELP, Parsed
from levity.cli.output import print_error
from levity.client import Client
from levity.errors import InvalidRequest
from levity.protocol.token_proof import parse_token
from levity.transport.connection import Deadline
from levity.transport.credentials import TOKEN_VARIABLE, Credentials, store_token
from levity.transport.rpc import connect

__all__ = ["OPTIONS", "needs_token", "run"]

OPTIONS = (HELP,)

# A line with a token has 72 characters.
_LINE_LIMIT = 1024


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    parsed.no_words()
    credentials = needs_token(client)
    if credentials.certificate:
        raise InvalidRequest("a client certificate needs no token: leave out one or the other")
    text = _ask_for_token(str(client.address))
    if not text.strip():
        raise InvalidRequest("no token was given: type it, or send it as a line to the standard input")
    key = parse_token(text)
    credentials.use_key(key)
    # Stored only after the server has proved that it has the same token, and has accepted this client.
    connection = connect(client.address, Deadline(client.timeout_s), credentials)
    connection.close()
    path = store_token(client.address, key)
    print_error(f"logged in at {client.address} as {connection.user}, role {connection.role}; the token is in {path}")
    if os.environ.get(TOKEN_VARIABLE):
        print_error(f"{TOKEN_VARIABLE} is set: its token goes before the one that is stored now")
    return 0


def needs_token(client: Client) -> Credentials:
    """Return the client's credentials; InvalidRequest at an address that uses no tokens."""
    if client.credentials is None:
        raise InvalidRequest(f"no token is needed at {client.address}: the kernel says who is there; -a names another")
    return client.credentials


def _ask_for_token(address: str) -> str:
    if os.isatty(0):
        from getpass import getpass  # it turns the echo off

        try:
            return getpass(f"Token for {address}: ")
        except EOFError:
            return ""
    # Only a line: the rest of the input may be for another program.
    return sys.stdin.buffer.readline(_LINE_LIMIT).decode("ascii", "replace") if sys.stdin else ""
