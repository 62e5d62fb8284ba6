"""The `levity` command: global options, dispatch, and the one place where an error becomes a line. Runs in: client.

Owns: the process's exit code. Never: imports what the given command does not need, for imports take most of the time of
`levity query`.
"""

import sys

from levity.errors import INTERRUPTED, LevityError

__all__ = ["COMMANDS", "main"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    from levity.cli.options import Parsed

# Each is a module of this package, with OPTIONS and run(parsed, client).
COMMANDS = ("start", "run", "query", "wait", "signal", "logs", "list", "info", "login", "logout")
# Their own options end where the task's command begins.
_TAKE_A_COMMAND = ("start", "run")


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run the command line `argv` (without the program's name; None: sys.argv) and return the exit code."""
    try:
        return _guarded(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        return INTERRUPTED


def _guarded(words: list[str]) -> int:
    from levity.cli.output import ReaderGone, fill_standard_descriptors, print_error

    try:
        fill_standard_descriptors()
        return _run(words)
    except ReaderGone as error:
        return error.exit_status
    except LevityError as error:
        print_error(error.message)
        return error.exit_status
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        print_error(f"a fault in levity itself: {type(error).__name__}: {error}; `python -X dev -m levity` shows where")
        return 1


def _run(words: list[str]) -> int:
    from levity.cli.options import GLOBAL, UsageError, parse

    parsed = parse("levity", GLOBAL, words)
    if parsed.has("help"):
        return _help([])
    if parsed.has("version"):
        return _version()
    if not parsed.words:
        raise UsageError("levity", "no command was given")
    command, *rest = parsed.words
    if command == "help":
        return _help(rest)
    if command not in COMMANDS:
        raise UsageError("levity", f"there is no command {command!r}; there are {', '.join(COMMANDS)}, help")
    module = _load(command)
    options = parse(command, module.OPTIONS, rest, anywhere=command not in _TAKE_A_COMMAND)
    if options.has("help"):
        return _help([command])
    return _ask(module, parsed, options)


def _ask(module: "ModuleType", parsed: "Parsed", options: "Parsed") -> int:
    from levity.client import Client

    given: dict[str, Any] = {name: parsed.last(name) for name in ("ca", "cert", "key")}
    if (timeout_s := parsed.seconds("timeout")) is not None:
        given["timeout"] = timeout_s
    # The client connects at the first request of the command.
    with Client(parsed.last("address"), tls=parsed.has("tls"), **given) as client:
        code: int = module.run(options, client)
        return code


def _load(command: str) -> "ModuleType":
    module: ModuleType = __import__(f"levity.cli.{command}", fromlist=["run"])
    return module


def _help(words: list[str]) -> int:
    from levity.cli.help import run

    return run(words)


def _version() -> int:
    from levity.cli.output import write_text
    from levity.version import __version__

    write_text(f"levity {__version__}\n")
    return 0
