"""`levityd certs`: a certificate authority of one's own. Runs in: arbiter. Owns: nothing."""

import argparse
import ipaddress
import os
import re
import shlex
from collections.abc import Callable

from levity.errors import Conflict
from supervisor.arbiter.certificates.ca_directory import DIRECTORY, CaDirectory, make_ca
from supervisor.arbiter.certificates.self_signed import host_name
from supervisor.arbiter.commands.subcommand import Action, add_role
from supervisor.log import log
from supervisor.security.roles import Role
from supervisor.security.tokens import TokenStore, check_user_name, own_name

__all__ = ["ABOUT", "ACTIONS"]

ABOUT = """\
A certificate authority for 'levityd --client-ca' and 'levity --ca', in the directory 'certs' of the state directory.
Keep its key, ca.key, to yourself: who has it can be any user. Certificates of any other authority will do as well."""

_DAYS, _DAYS_LIMIT = 365, 3653
# A host's name, with or without a wildcard. Its last label has a letter: without one it is a misspelled address.
_HOST_NAME = re.compile(r"(?=.{1,253}$)(\*\.)?([A-Za-z0-9_-]{1,63}\.)*(?=[^.]*[A-Za-z])[A-Za-z0-9_-]{1,63}")


def _init(options: argparse.Namespace) -> None:
    host = host_name()
    names = list(dict.fromkeys([host, "localhost", "127.0.0.1", "::1", *options.names]))
    make_ca(host, names)
    file = _files(options)
    log(
        f"levityd: made a CA and a certificate for a server called {', '.join(names)}; they last ten years\n"
        f"for each user:  levityd certs user NAME --state-dir {shlex.quote(options.state_dir)}\n"
        f"then:           levityd --state-dir {shlex.quote(options.state_dir)} --certificate {file('server.pem')} "
        f"--key {file('server.key')} --client-ca {file('ca.pem')} --crl {file('crl.pem')} 0.0.0.0:4321"
    )


def _user(options: argparse.Namespace) -> None:
    check_user_name(options.name)
    _guard_own_name(options)
    directory = CaDirectory()
    try:
        directory.issue(options.name, options.days)
    finally:
        directory.close()
    # Also for the default role: an earlier user of that name may have had another one.
    _set_role(options)
    file, name = _files(options), options.name
    log(
        f"levityd: made a certificate for {name}, for {options.days} days, role {options.role}\n"
        f"take to the client's side, where nobody else can read the key:  {file('ca.pem')} {file(f'{name}.pem')} "
        f"{file(f'{name}.key')}\n"
        f"then, there:  levity --ca ca.pem -c {name}.pem -k {name}.key -a HOST:4321 list\n"
        f"HOST: a name that levityd's certificate has, {host_name()} or one that was given to init"
    )


def _revoke(options: argparse.Namespace) -> None:
    directory = CaDirectory()
    try:
        count = directory.revoke(options.name)
    finally:
        directory.close()
    # The role stays: until levityd reads the new revocation list, a viewer must not become a user.
    log(
        f"levityd: {options.name}: {count} certificate{'s' * (count != 1)} more revoked; levityd looks at "
        f"{_files(options)('crl.pem')} if --crl names it"
    )


def _guard_own_name(options: argparse.Namespace) -> None:
    """Refuse at once what levityd would refuse later."""
    if options.name == own_name() and Role(options.role) is not Role.ADMIN:
        raise Conflict(f"{options.name} is levityd's own user: that name gets in as an admin only (--role admin)")


def _set_role(options: argparse.Namespace) -> None:
    role = Role(options.role)
    with TokenStore() as store:
        store.set_role(options.name, None if role is Role.USER else role)


def _change_role(options: argparse.Namespace) -> None:
    check_user_name(options.name)
    _guard_own_name(options)
    _set_role(options)
    log(f"levityd: clients that have a certificate with the name {options.name} have the role {options.role} now")


def _files(options: argparse.Namespace) -> Callable[[str], str]:
    """Return what makes a path to a file of the CA, quoted for a shell."""
    return lambda name: shlex.quote(os.path.join(options.state_dir, DIRECTORY, name))


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _DAYS_LIMIT):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {_DAYS_LIMIT}")
    return int(text)


def _server_name(text: str) -> str:
    if _HOST_NAME.fullmatch(text):
        return text
    try:
        return str(ipaddress.ip_address(text.replace("%", "no certificate has a zone")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no name or address of a server") from None


def _add_names(parser: argparse.ArgumentParser) -> None:
    about = "a name or address more by which clients reach the server (beside the host's own, and loopback)"
    parser.add_argument("names", nargs="*", metavar="NAME", type=_server_name, help=about)


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the user: letters, digits and . _ -")


def _add_user(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    add_role(parser, "--role", default=str(Role.USER))
    parser.add_argument(
        "--days", type=_days, default=_DAYS, help=f"how long it is valid, 1 to {_DAYS_LIMIT} (default: {_DAYS})"
    )


def _add_name_and_role(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    add_role(parser, "role")


ACTIONS = [
    Action("init", "make a CA, and a certificate for levityd", _add_names, _init),
    Action("user", "make a certificate for a user", _add_user, _user),
    Action("revoke", "add all certificates of a user to the revocation list", _add_name, _revoke),
    Action("role", "give a user with a certificate, of any CA, another role", _add_name_and_role, _change_role),
]
