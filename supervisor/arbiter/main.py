"""The `levityd` command. Runs in: arbiter."""

import argparse
import os
import signal
import sys
from typing import Any, NoReturn

from levity.addresses import Address, parse_address, state_directory
from levity.errors import BadAddress, InvalidRequest
from levity.sizes import check_log_cap, parse_size
from levity.version import __version__
from supervisor.arbiter.arbiter import Arbiter
from supervisor.arbiter.listener import Listener
from supervisor.arbiter.refusal import FAILED, RefusedError
from supervisor.arbiter.statedir import enter_state_dir, lock_state_dir
from supervisor.hostos.descriptors import close_all_but, normalise_standard_streams
from supervisor.hostos.procfs import initial_environment
from supervisor.hostos.titles import set_title
from supervisor.say import say
from supervisor.settings import Keeping, Settings

__all__ = ["main"]

_LONGEST_AGE_S = 1e9

_DESCRIPTION = """\
Run commands on this host for levity clients. Stays in the foreground; tasks go on when it ends, and it finds them
again when it is started with the same state directory. WARNING: it runs arbitrary commands for whoever is let in."""

_EPILOG = """\
ADDRESS is HOST:PORT (port 0: any free one), [IPV6]:PORT or unix:/path; none is the unix socket in the state directory.
Only loopback and unix addresses are accepted until there is access control.
SIZE is a number of bytes, or one with K, M, G or T behind it (1K is 1024); none: no limit.
Where a limit is reached, output is dropped, the oldest first; what became of a task is always kept.

environment: LEVITY_STATE_DIR   the state directory, if --state-dir is not given
exit status: 0 stopped by a signal; 1 the address or state directory is taken; 2 usage; 70 broken; 78 a setting is wrong

example: levityd 127.0.0.1:4321      then, elsewhere: levity -a 127.0.0.1:4321 start -- make -C /src"""


def main(argv: list[str] | None = None) -> int:
    """Run levityd until it is told to stop; return its exit status."""
    options = _parser().parse_args(argv)
    normalise_standard_streams()
    try:
        settings = _settings(options)
        return _run(settings)
    except (RefusedError, BadAddress, InvalidRequest) as error:
        say(f"levityd: {error.message}")
        return error.status if isinstance(error, RefusedError) else error.exit_status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # While it waits for a name server or an earlier levityd: nothing is started yet.
    except OSError as error:
        say(f"levityd: {error.filename or 'the host refused'}: {error.strerror}")
        return FAILED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong."""
        self.exit(2, f"levityd: {message}; see 'levityd --help'\n")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < _LONGEST_AGE_S:
        raise ValueError
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "levityd", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", nargs="?", metavar="ADDRESS", help="where to listen (default: the unix socket)")
    parser.add_argument("--state-dir", metavar="DIR", help="where tasks and their output are kept")
    parser.add_argument("--log-cap", metavar="SIZE", help="output kept of one task, at least 1M (default: 1G)")
    parser.add_argument("--log-quota", metavar="SIZE", help="output kept of all ended tasks together (default: 10G)")
    parser.add_argument(
        "--min-free", metavar="SIZE", help="space to keep free for others on the disk (default: 5%% of it, at most 1G)"
    )
    parser.add_argument(
        "--log-min-age",
        metavar="SECONDS",
        type=_seconds,
        help="how long the output of an ended task is kept in any case, unless another task waits for the room "
        "(default: 60)",
    )
    parser.add_argument("--version", action="version", version=f"levityd {__version__}")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    state_dir = os.path.abspath(options.state_dir) if options.state_dir else state_directory(os.environ)
    text = options.address or f"unix:{os.path.join(state_dir, 'levity.sock')}"
    return Settings(address=parse_address(text), state_dir=state_dir, keeping=_keeping(options))


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


def _run(settings: Settings) -> int:
    close_all_but([])
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Inherited, and where it blocks SIGTERM nothing would end us.
    os.environb.clear()
    os.environb.update(initial_environment())  # What Python added at its start is not for tasks.
    if interval := os.environ.get("LEVITY_SWITCH_INTERVAL"):
        sys.setswitchinterval(float(interval))  # For `make tests-race`.
    set_title("levityd: arbiter", "levity-arbiter")
    enter_state_dir(settings.state_dir)
    lock_state_dir(settings.state_dir)
    listener = Listener(settings.address)
    try:
        listener.listen()
        left_behind = Arbiter(settings, listener).run()
    finally:
        listener.close()
    _say_farewell(listener.address, settings.state_dir, left_behind)
    return 0


def _say_farewell(address: Address, state_dir: str, left_behind: int | None) -> None:
    if left_behind == 0:
        say("levityd: stopped; no task is left running")
        return
    tasks = "tasks may be" if left_behind is None else f"{left_behind} task{'s' * (left_behind != 1)}"
    again = f"levityd --state-dir {state_dir} {address}, then levity -a {address} list"
    say(f"levityd: stopped; {tasks} left running; to find them again: {again}")
