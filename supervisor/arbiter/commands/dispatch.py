"""Run `levityd token` or `levityd certs`; levityd itself may run or not. Runs in: arbiter. Owns: nothing."""

import argparse
import os

from supervisor.arbiter.commands import certs as certs_command
from supervisor.arbiter.commands import token as token_command
from supervisor.arbiter.options import Parser, state_dir_of
from supervisor.arbiter.state_dir import enter_state_dir
from supervisor.hostos.descriptors import normalise_standard_streams
from supervisor.log import log

__all__ = ["COMMANDS", "run_command"]

COMMANDS = {"token": token_command, "certs": certs_command}


def run_command(arguments: list[str]) -> int:
    """Run `token ...` or `certs ...` and return the exit status; LevityError, StartupError, OSError."""
    options = _parser(arguments[0]).parse_args(arguments[1:])
    normalise_standard_streams()
    os.umask(0o077)
    options.state_dir = state_dir_of(options)
    is_new = not os.path.lexists(options.state_dir)
    enter_state_dir(options.state_dir)
    options.run(options)
    if is_new:
        log(f"levityd: {options.state_dir} is new: no levityd has used it yet; --state-dir names another")
    return 0


def _parser(command: str) -> Parser:
    module = COMMANDS[command]
    made = Parser(f"levityd {command}", description=module.ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = made.add_subparsers(required=True, metavar="ACTION", dest="action")
    for action in module.ACTIONS:
        one = actions.add_parser(action.name, help=action.help, description=action.help)
        action.add_arguments(one)
        one.add_argument(
            "--state-dir", metavar="DIR", help="the state directory (default: LEVITY_STATE_DIR, or levityd's)"
        )
        one.set_defaults(run=action.run)
    return made
