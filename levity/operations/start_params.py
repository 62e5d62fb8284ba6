"""The parameters of task.start. Runs in: client. Owns: nothing. Never: does I/O.

Checked as far as the client can, so that a mistake is told without a connection.
"""

import os

from levity.errors import InvalidRequest
from levity.protocol.limits import GRACE_LIMIT_S
from levity.protocol.text import bytes_to_text

__all__ = ["check_grace", "new_task_id", "start_params"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    JsonObject = dict[str, Any]
    Text = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def new_task_id() -> str:
    """Return a random UUID (RFC 9562, version 4)."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def start_params(
    argv: "Sequence[Text]",
    cwd: "Text | None",
    env: "Mapping[str, Text] | Mapping[bytes, Text] | None",
    grace_s: float | None,
    task_id: str,
    stdin: bool = False,
    merged: bool = False,
    log_cap: int | None = None,
    user: str | None = None,
) -> "JsonObject":
    """Return the parameters of `task.start`; InvalidRequest for what no host could run."""
    params: JsonObject = {"id": task_id, "argv": _argv(argv), "cwd": None, "env": _env(env)}
    if cwd is not None:
        params["cwd"] = _wire_text(cwd, "the working directory")
    if grace_s is not None:
        params["grace_s"] = check_grace(grace_s)
    if stdin:
        params["stdin"] = True
    if merged:
        params["merged"] = True
    if log_cap is not None:
        params["log_cap"] = _log_cap(log_cap)
    if user is not None:
        params["user"] = _user(user)
    return params


def check_grace(grace_s: float) -> float:
    """Return a grace period as it is if it is a number of seconds, InvalidRequest if not."""
    if isinstance(grace_s, int | float) and 0 <= grace_s <= GRACE_LIMIT_S:
        return grace_s
    raise InvalidRequest(f"the grace period makes no sense; give a number of seconds from 0 to {GRACE_LIMIT_S}")


def _log_cap(log_cap: int) -> int:
    from levity.sizes import check_log_cap  # most starts give none

    return check_log_cap(log_cap)


def _user(user: str) -> str:
    if isinstance(user, str) and user and user.isprintable():
        return user
    raise InvalidRequest(f"{user!r} is no user's name")


def _argv(argv: "Sequence[Text]") -> list[str]:
    if isinstance(argv, str | bytes) or not hasattr(argv, "__iter__"):
        raise InvalidRequest(f"the command is to be a list of words like ['ls', '-l'], not {type(argv).__name__}")
    words = [_wire_text(word, f"argument {position}") for position, word in enumerate(argv)]
    if not words or not words[0]:
        raise InvalidRequest("the command is empty")
    return words


def _env(env: "Mapping[str, Text] | Mapping[bytes, Text] | None") -> dict[str, str]:
    if not hasattr(env or {}, "items"):
        raise InvalidRequest(f"the environment is to be a dict, not {type(env).__name__}")
    result = {}
    for name, value in (env or {}).items():
        text = _wire_text(name, "the name of an environment variable")
        if not text or "=" in text:
            raise InvalidRequest(f"{text!r} cannot name an environment variable: it is empty or holds '='")
        result[text] = _wire_text(value, f"the environment variable {text!r}")
    return result


def _wire_text(value: "Text", what: str) -> str:
    try:
        raw = os.fsencode(value)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{what} is neither text nor bytes: {error}") from error
    if b"\0" in raw:
        raise InvalidRequest(f"{what} holds a NUL, which no command can be given")
    return bytes_to_text(raw)
