"""The commands that an engine gives to a shim, a JSON line each. Used by: engine, shim. Never: does I/O.

Version 1 has a verb: {"do": "signal", "grace_s": 5.0}, {"do": "stdin"}. A shim names the version that it understands in
shim.json (`commands`), and the engine asks nothing of it that is newer. A shim that names none is of levity 0.1 before
there were verbs: {} and {"grace_s": 5.0} are its signal, {"stdin": true} is its stdin, and every other object would end
its task. A newer shim understands these forms, too, because an older engine may have come back after a downgrade.

A shim ignores whatever it does not understand: another verb, another form, a value out of range, half a line.
"""

import json

from supervisor.spool.records import JsonObject

__all__ = ["COMMANDS_VERSION", "GRACE_LIMIT_S", "LINE_LIMIT", "SIGNAL", "STDIN", "CommandDecoder", "encode_command"]

COMMANDS_VERSION = 1
# Ask the task to quit, with `grace_s` seconds until SIGKILL, the task's own grace period if there is no such key; and
# there is input.
SIGNAL, STDIN = "signal", "stdin"
# In which version a verb came.
_SINCE = {SIGNAL: 1, STDIN: 1}

# What fifo(7) keeps in one piece (PIPE_BUF).
LINE_LIMIT = 4096
GRACE_LIMIT_S = 7 * 24 * 3600.0


def encode_command(version: int, verb: str, **values: object) -> bytes | None:
    """Return the line for a shim that understands `version`; None if it does not know the verb.

    The line begins with a line end, so that half a line that something else has written does not spoil it.
    """
    if version >= _SINCE[verb]:
        return _line({"do": verb, **values})
    if verb == SIGNAL:
        return _line(values)
    return _line({"stdin": True}) if verb == STDIN else None


def _line(command: JsonObject) -> bytes:
    return b"\n" + json.dumps(command).encode("ascii") + b"\n"


class CommandDecoder:
    """Turn received bytes into commands: `feed(chunk)` returns those that are complete and understood.

    A command is an object with "do", and "grace_s" if that was given, whatever form it came in.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._is_overlong = False

    def feed(self, chunk: bytes) -> list[JsonObject]:
        """Take the next bytes; a line over the limit is dropped to its end."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        if lines and self._is_overlong:
            del lines[0]
            self._is_overlong = False
        if len(rest) > LINE_LIMIT:
            self._is_overlong = True
        self._rest = b"" if self._is_overlong else rest
        return [command for line in lines if len(line) <= LINE_LIMIT and (command := _parse(line)) is not None]


def _parse(line: bytes) -> JsonObject | None:
    try:
        command = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(command, dict):
        return None
    verb = command.get("do") if "do" in command else _old_verb(command)
    if verb == STDIN:
        return {"do": STDIN}
    if verb != SIGNAL:
        return None
    if "grace_s" not in command:
        return {"do": SIGNAL}
    grace_s = command["grace_s"]
    return {"do": SIGNAL, "grace_s": grace_s} if _is_grace(grace_s) else None


def _old_verb(command: JsonObject) -> str | None:
    if command.keys() <= {"grace_s"}:
        return SIGNAL
    return STDIN if command == {"stdin": True} else None


def _is_grace(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= GRACE_LIMIT_S
