"""`levityd token`: list, add, revoke and show tokens. Runs in: arbiter. Owns: nothing."""

import argparse
import shlex
import time

from levity.errors import LevityError
from supervisor.arbiter.commands.subcommand import Action, add_role, print_line
from supervisor.log import log
from supervisor.security.roles import Role
from supervisor.security.tokens import TokenStore, check_user_name, own_name

__all__ = ["ABOUT", "ACTIONS"]

ABOUT = """\
A token lets a client in by TCP: 256 bits that only levityd and that client know. It belongs to a user, and all who have
that name are the same user. levityd makes one for its own user, an admin, and finds out at once about the others that
are made or revoked here. On the client's side 'levity -a HOST:PORT login' asks for it once and stores it."""


def _add(options: argparse.Namespace) -> None:
    with TokenStore() as store:
        token = store.add(options.name, Role(options.role))
    print_line(token.text)
    _say_what_next()


def _show(options: argparse.Namespace) -> None:
    with TokenStore() as store:
        if options.name is None:
            token = store.ensure_own()
        else:
            check_user_name(options.name)
            found = store.get(options.name)
            if found is None:
                raise LevityError(f"{options.name} has no token; levityd token add {options.name} makes one")
            token = found
    print_line(token.text)
    _say_what_next()


def _say_what_next() -> None:
    log("levityd: give it to 'levity -a HOST:PORT login' on the client's side, and to nobody else")


def _list(_options: argparse.Namespace) -> None:
    with TokenStore() as store:
        rows = [(token.name, str(token.role), _time(token.created_ns)) for token in store.all()]
    rows.insert(0, ("NAME", "ROLE", "CREATED"))
    width = max(len(name) for name, _role, _created in rows)
    for name, role, created in rows:
        print_line(f"{name:<{width}}  {role:<6}  {created}")


def _time(ns: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // 10**9))
    except (ValueError, OverflowError, OSError):
        return "?"  # Somebody wrote into the file what is not a time.


def _revoke(options: argparse.Namespace) -> None:
    with TokenStore() as store:
        store.revoke(options.name)
        if options.name != own_name():
            return
        store.ensure_own()
    state_dir = shlex.quote(options.state_dir)
    log(f"levityd: its own user has a new token now: levityd token show --state-dir {state_dir}")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the user: letters, digits and . _ -")


def _add_name_and_role(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    add_role(parser, "--role", default=str(Role.USER))


def _add_optional_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the user (default: levityd's own)")


ACTIONS = [
    Action("list", "who has a token; the tokens are not shown", lambda _parser: None, _list),
    Action("add", "make a token for a user who has none, and print it", _add_name_and_role, _add),
    Action("revoke", "take the token of a user away; levityd's own user gets a new one", _add_name, _revoke),
    Action("show", "print a token; the one of levityd's own user is made if need be", _add_optional_name, _show),
]
