"""The `levityd` command. Runs in: arbiter."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace

from levity.addresses import Address
from levity.errors import LevityError
from supervisor.arbiter.access import TlsFiles, access_for
from supervisor.arbiter.arbiter import Arbiter
from supervisor.arbiter.bootstrap_token import make_bootstrap_token
from supervisor.arbiter.commands.dispatch import COMMANDS, run_command
from supervisor.arbiter.listener import Listener, find_place
from supervisor.arbiter.options import parser, settings_of
from supervisor.arbiter.startup_error import FAILED, StartupError
from supervisor.arbiter.state_dir import enter_state_dir, lock_state_dir
from supervisor.hostos.descriptors import close_all_but, normalise_standard_streams
from supervisor.hostos.procfs import initial_environment
from supervisor.hostos.titles import set_title
from supervisor.log import log
from supervisor.settings import TICKET_KEY, Known, Settings

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run levityd until it is told to stop, or one of its commands; return the exit status."""
    arguments = _command_first(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        return _refusing(lambda: run_command(arguments))
    options = parser().parse_args(arguments)
    normalise_standard_streams()
    return _refusing(lambda: _run(*settings_of(options)))


def _command_first(arguments: list[str]) -> list[str]:
    """Return the arguments with the command, if there is one, before --state-dir: both orders are accepted."""
    count = 2 if arguments[:1] == ["--state-dir"] else 1 if arguments and arguments[0].startswith("--state-dir=") else 0
    # An address cannot be taken for a command: it has a colon.
    if count and len(arguments) > count and arguments[count] in COMMANDS:
        return [*arguments[count:], *arguments[:count]]
    return arguments


def _refusing(action: Callable[[], int]) -> int:
    """Do it; if that fails, say in one line why, and return the exit status for that."""
    try:
        return action()
    except (StartupError, LevityError) as error:
        log(f"levityd: {error.message}")
        return error.status if isinstance(error, StartupError) else error.exit_status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # It waited for a name server or an earlier levityd: nothing is started yet.
    except OSError as error:
        log(f"levityd: {error.filename or 'the host refused'}: {error.strerror}")
        return FAILED


def _run(settings: Settings, files: TlsFiles) -> int:
    close_all_but([])
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # The mask is inherited; with SIGTERM in it nothing would end us.
    os.environb.clear()
    os.environb.update(initial_environment())  # Tasks do not get what Python added at its start.
    if interval := os.environ.get("LEVITY_SWITCH_INTERVAL"):
        sys.setswitchinterval(float(interval))  # For `make tests-race`.
    set_title("levityd: arbiter", "levity-arbiter")
    enter_state_dir(settings.state_dir)
    lock_state_dir(settings.state_dir)
    _forget_tickets()
    place = find_place(settings.address)
    settings = replace(settings, access=access_for(place.host, files))
    listener = Listener(place, settings.access)
    try:
        if settings.access.known is Known.TOKEN:
            make_bootstrap_token()
        listener.listen()
        left_behind = Arbiter(settings, listener).run()
    finally:
        listener.close()
    _say_farewell(listener.address, settings, left_behind)
    return 0


def _forget_tickets() -> None:
    """Remove the key of an earlier levityd's tickets: their connections have ended with it."""
    try:
        os.unlink(TICKET_KEY)
    except FileNotFoundError:
        pass


def _say_farewell(address: Address, settings: Settings, left_behind: int | None) -> None:
    if left_behind == 0:
        log("levityd: stopped; no task is left running")
        return
    tasks = "tasks may be" if left_behind is None else f"{left_behind} task{'s' * (left_behind != 1)}"
    # With TLS, clients may use another address than this one, and need a token or certificates.
    if settings.access.tls is None:
        again = f"levityd --state-dir {settings.state_dir} {address}, then levity -a {address} list"
    else:
        again = f"levityd --state-dir {settings.state_dir} {address} with its other options, then levity list as before"
    log(f"levityd: stopped; {tasks} left running; to find them again: {again}")
