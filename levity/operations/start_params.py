"""What a client sends with `task.start`. Runs in: client. Owns: nothing. Never: does I/O."""

import os

from levity.start_options import FIELDS

__all__ = ["new_task_id", "start_params"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    JsonObject = dict[str, Any]


def new_task_id() -> str:
    """Return a random UUID (RFC 9562, version 4)."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def start_params(task_id: str, given: "Mapping[str, object]") -> "JsonObject":
    """Return the parameters of `task.start` for keywords of `Client.start`.

    InvalidRequest for what no host could run, so that a mistake is told without a connection; TypeError for a keyword
    that is no option.
    """
    if unknown := set(given) - set(FIELDS):
        raise TypeError(f"a task has no option {min(unknown)!r}")
    params: JsonObject = {"id": task_id, "cwd": None, "env": {}}  # Every version sends these two.
    for name, field in FIELDS.items():
        value = field.to_wire(given.get(name))
        if value is not None:
            params[name] = value
    return params
