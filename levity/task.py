"""A task's record, as levityd sends it. Runs in: client. Owns: nothing."""

import os

from levity.errors import InvalidRequest, ProtocolError
from levity.states import State

__all__ = ["TaskRecord"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    JsonObject = dict[str, Any]


class TaskRecord:
    """A task as it was when levityd answered; a record does not change afterwards.

    * `id`, `state` (a `State`), `reason` (in words); `phase`: the state in more detail, a word, None from an older
      levityd. New words may come
    * `exit_code`: 0-255, 128+N when signal N ended it, None while there is none; `signal`: that signal's name, or None
    * `argv`, `cwd` (None: the home of levityd's user), `env` (what `start` was given): as `os.fsdecode` gives them
    * `grace_s`: seconds between SIGTERM and SIGKILL
    * `pid`, `shim_pid`: the task's process and its shim, None if there is none
    * `accepted_at`, `started_at`, `signalled_at`, `ended_at`: RFC 3339, UTC, with nanoseconds, or None
    * `stdout_bytes`, `stderr_bytes`: how much it wrote, None until it is over
    * `waiting`: why the task has to wait (no space for its output), in words, or None
    * `stdin`: whether clients send its standard input; `merged`: whether its stderr is the same pipe as its stdout
    * `log_cap`: how many bytes of its output are kept, 0 for all
    * `owner`: the user who started it; `user`: the account on the host that it runs as, None for levityd's own. Both
      are None from an older levityd
    * `raw`: the record as it came, with all fields that a newer levityd added
    """

    id: str
    state: State
    phase: str | None
    exit_code: int | None
    signal: str | None
    reason: str
    grace_s: float
    argv: list[str]
    cwd: str | None
    env: dict[str, str]
    pid: int | None
    shim_pid: int | None
    accepted_at: str | None
    started_at: str | None
    signalled_at: str | None
    ended_at: str | None
    stdout_bytes: int | None
    stderr_bytes: int | None
    waiting: str | None
    stdin: bool
    merged: bool
    log_cap: int | None
    owner: str | None
    user: str | None
    raw: "JsonObject"

    __slots__ = (
        "accepted_at",
        "argv",
        "cwd",
        "ended_at",
        "env",
        "exit_code",
        "grace_s",
        "id",
        "log_cap",
        "merged",
        "owner",
        "phase",
        "pid",
        "raw",
        "reason",
        "shim_pid",
        "signal",
        "signalled_at",
        "started_at",
        "state",
        "stderr_bytes",
        "stdin",
        "stdout_bytes",
        "user",
        "waiting",
    )

    def __init__(self, raw: "JsonObject") -> None:
        """Read a record off the wire; ProtocolError for anything else."""
        self.raw = raw
        try:
            for name in _AS_THEY_ARE:
                setattr(self, name, raw.get(name))
            self.id = raw["id"] + ""
            self.state = State(raw["state"])
            self.reason = raw.get("reason") or ""
            self.stdin = bool(raw.get("stdin"))
            self.merged = bool(raw.get("merged"))
            self.argv = [_local_text(word) for word in raw["argv"]]
            self.cwd = None if raw.get("cwd") is None else _local_text(raw["cwd"])
            self.env = {_local_text(name): _local_text(value) for name, value in (raw.get("env") or {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError, InvalidRequest) as error:
            raise ProtocolError(f"levityd sent a task record that makes no sense: {error!r}") from error

    def __repr__(self) -> str:
        return f"<TaskRecord {self.id} {self.state}>"


_AS_THEY_ARE = (
    "phase",
    "exit_code",
    "signal",
    "grace_s",
    "pid",
    "shim_pid",
    "accepted_at",
    "started_at",
    "signalled_at",
    "ended_at",
    "stdout_bytes",
    "stderr_bytes",
    "waiting",
    "log_cap",
    "owner",
    "user",
)


def _local_text(text: str) -> str:
    """Return the text that means the same bytes in this process: another one where the locale is not UTF-8."""
    if text.isascii():
        return text
    from levity.protocol.text import text_to_bytes  # most commands are ASCII

    return os.fsdecode(text_to_bytes(text))
