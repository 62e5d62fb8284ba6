"""The options of levityd's command line. Runs in: arbiter. Owns: nothing."""

import argparse
import os
from typing import Any, NoReturn

from levity.addresses import SYSTEM_SOCKET, parse_address, state_directory
from levity.errors import InvalidRequest
from levity.sizes import check_log_cap, parse_size
from levity.version import __version__
from supervisor.arbiter.access import TlsFiles
from supervisor.settings import Keeping, Settings

__all__ = ["Parser", "parser", "settings_of", "state_dir_of"]

_LONGEST_AGE_S = 1e9

_DESCRIPTION = """\
Run commands on this host for levity clients. Stays in the foreground; tasks go on when it ends, and it finds them
again when it is started with the same state directory. WARNING: it runs arbitrary commands for whoever is let in."""

_EPILOG = """\
ADDRESS is HOST:PORT (port 0: any free one), [IPV6]:PORT or unix:/path. None is the unix socket in the state directory;
where root runs levityd without a state directory being given, /run/levity/levity.sock, which is for all users.

who gets in:
  by a unix socket              its owner; by root's every local user, whose tasks then run as that user
  by 127.0.0.1:4321             who has a token; your own clients find yours, nothing to set up
  by any other address          the same inside TLS 1.3, with a certificate that levityd makes for itself, or with
                                --certificate and --key. 'levityd token show' here, 'levity -a HOST:4321 login' there
  with --client-ca              who has a certificate of that CA; its common name is the user. No tokens
No option opens a port without these.

  levityd token list|add|revoke|show   who has a token: 'levityd token --help'
  levityd certs init|user|revoke|role  a CA of one's own: 'levityd certs --help'

SIZE is a number of bytes, or one with K, M, G or T behind it (1K is 1024); none: no limit.
Where a limit is reached, output is dropped, the oldest first; what became of a task is always kept.

environment: LEVITY_STATE_DIR   the state directory, if --state-dir is not given
exit status: 0 stopped by a signal; 1 the address or state directory is taken; 2 usage; 70 broken; 78 a setting is wrong

example: levityd 127.0.0.1:4321      then, elsewhere on this host: levity -a 127.0.0.1:4321 start -- make -C /src"""


class Parser(argparse.ArgumentParser):
    """Tells in one line what is wrong with a command line."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong, and exit with status 2."""
        self.exit(2, f"levityd: {message}; see '{self.prog} --help'\n")


def parser() -> Parser:
    """Return the parser of levityd's own options."""
    made = Parser(
        "levityd", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("address", nargs="?", metavar="ADDRESS", help="where to listen (default: a unix socket)")
    made.add_argument("--state-dir", metavar="DIR", help="where tasks and their output are kept")
    made.add_argument(
        "--certificate", metavar="FILE", help="levityd's certificate, PEM, with those that lead to its CA"
    )
    made.add_argument("--key", metavar="FILE", help="its key, PEM, without a passphrase, for nobody else to read")
    made.add_argument("--client-ca", metavar="FILE", help="let in who has a certificate of this CA, and nobody else")
    made.add_argument(
        "--crl", metavar="FILE", help="but not who is in this revocation list; read again when it changes"
    )
    made.add_argument("--log-cap", metavar="SIZE", help="output kept of one task, at least 1M (default: 1G)")
    made.add_argument("--log-quota", metavar="SIZE", help="output kept of all ended tasks together (default: 10G)")
    made.add_argument(
        "--min-free", metavar="SIZE", help="space to keep free for others on the disk (default: 5%% of it, at most 1G)"
    )
    made.add_argument(
        "--log-min-age",
        metavar="SECONDS",
        type=_seconds,
        help="how long the output of an ended task is kept in any case, unless another task waits for the room "
        "(default: 60)",
    )
    made.add_argument("--version", action="version", version=f"levityd {__version__}")
    return made


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < _LONGEST_AGE_S:
        raise ValueError
    return seconds


def state_dir_of(options: argparse.Namespace) -> str:
    """Return the state directory, an absolute path; BadAddress if there is none to be found."""
    if options.state_dir == "":
        raise InvalidRequest("--state-dir is empty: name a directory, or leave it out")
    return os.path.abspath(options.state_dir) if options.state_dir else state_directory(os.environ)


def settings_of(options: argparse.Namespace) -> tuple[Settings, TlsFiles]:
    """Return the settings that the options ask for; LevityError if they make no sense. No file is looked at."""
    state_dir = state_dir_of(options)
    address = parse_address(options.address or _default_address(options, state_dir))
    names = ("certificate", "key", "client_ca", "crl")
    paths = {name: getattr(options, name) for name in names}
    files = TlsFiles(**{name: None if path is None else os.path.abspath(path) for name, path in paths.items()})
    files.check(is_unix=address.is_unix)
    return Settings(address=address, state_dir=state_dir, keeping=_keeping(options)), files


def _default_address(options: argparse.Namespace, state_dir: str) -> str:
    if os.geteuid() == 0 and not options.state_dir and not os.environ.get("LEVITY_STATE_DIR"):
        return f"unix:{SYSTEM_SOCKET}"
    return f"unix:{os.path.join(state_dir, 'levity.sock')}"


def _keeping(options: argparse.Namespace) -> Keeping:
    given: dict[str, Any] = {}
    for name in ("log_cap", "log_quota", "min_free"):
        if (text := getattr(options, name)) is not None:
            try:
                given[name] = parse_size(text)
                if name == "log_cap":
                    check_log_cap(given[name])
            except InvalidRequest as error:
                raise InvalidRequest(f"--{name.replace('_', '-')}: {error.message}") from error
    if options.log_min_age is not None:
        given["min_age_s"] = options.log_min_age
    return Keeping(**given)
