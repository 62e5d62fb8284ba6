"""The JSON records of a task's directory, a class each. Runs in: shim, engine, front-end. Owns: nothing.

Never: does I/O. `from_json` alone knows what older versions did not write, `to_json` writes what this version does. A
key that a newer version wrote survives both. A record that is not whole is none: then `from_json` returns None.

Times are nanoseconds since the epoch. On the disk each record has a `version` as well (supervisor/spool/files.py).
"""

from levity.errors import InvalidRequest
from levity.protocol.text import text_to_bytes
from levity.start_options import DEFAULT_GRACE_S, FIELDS, StartOptions
from levity.states import ENDS, State

__all__ = [
    "DEFAULT_GRACE_S",
    "REQUIRED_KEYS",
    "ExitRecord",
    "JsonObject",
    "RecordVersionError",
    "RunAs",
    "ShimRecord",
    "Spec",
]

# A file without these holds no record.
REQUIRED_KEYS = {
    "spec.json": frozenset({"id", "argv", "cwd", "env", "grace_s"}),
    "shim.json": frozenset({"pid", "grace_s"}),
    "exit.json": frozenset({"state", "exit_code", "signal", "reason", "ended_ns"}),
}
# (uid_t) -1: to setresuid(2) it means "as it is".
_NO_ID = 2**32 - 1
# How many setgroups(2) takes.
_GROUPS_LIMIT = 65536

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from typing import Any

    JsonObject = dict[str, Any]
else:
    JsonObject = dict


class RecordVersionError(Exception):
    """A record was written by a newer levity."""


class _Record:
    """Equal is what writes the same."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Record) and other.to_json() == self.to_json()

    __hash__ = None  # type: ignore[assignment] # They can be changed.

    def to_json(self) -> JsonObject:
        raise NotImplementedError


class RunAs(_Record):
    """The account that a task runs as. The engine found all of it out; `name` is "" for a uid without an account."""

    __slots__ = ("gid", "groups", "home", "more", "name", "shell", "uid")

    def __init__(
        self, uid: int, gid: int, groups: list[int], name: str, home: str, shell: str, more: JsonObject | None = None
    ) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.name = name
        self.home = home
        self.shell = shell
        self.more = more or {}

    def __repr__(self) -> str:
        return f"<RunAs {self.name or self.uid}>"

    @classmethod
    def from_json(cls, record: object) -> "RunAs | None":
        """Read one. Nothing is made up for what is missing, or a task might run with more rights than it should."""
        if not isinstance(record, dict):
            return None
        given: list[Any] = [record.get(key) for key in _RUN_AS_KEYS]
        uid, gid, groups, name, home, shell = given
        if not isinstance(groups, list) or len(groups) > _GROUPS_LIMIT or not all(map(_is_id, [uid, gid, *groups])):
            return None
        if not all(map(_is_text, (name, home, shell))) or not home.startswith("/"):
            return None
        return cls(uid, gid, groups, name, home, shell, _others(record, frozenset(_RUN_AS_KEYS)))

    def to_json(self) -> JsonObject:
        return {key: getattr(self, key) for key in _RUN_AS_KEYS} | self.more


_RUN_AS_KEYS = ("uid", "gid", "groups", "name", "home", "shell")


class Spec(_Record):
    """spec.json: what was asked, by whom, when, and in which boot of the machine.

    `run_as` is None for levityd's own user. Older versions wrote no `owner`, `accepted_ns` or `boot_id`; they are None
    then.
    """

    __slots__ = ("accepted_ns", "boot_id", "id", "more", "options", "owner", "run_as")

    def __init__(
        self,
        id: str,
        options: StartOptions,
        *,
        owner: str | None = None,
        run_as: RunAs | None = None,
        accepted_ns: int | None = None,
        boot_id: str | None = None,
        more: JsonObject | None = None,
    ) -> None:
        self.id = id
        self.options = options
        self.owner = owner
        self.run_as = run_as
        self.accepted_ns = accepted_ns
        self.boot_id = boot_id
        self.more = more or {}

    def __repr__(self) -> str:
        return f"<Spec {self.id} {self.options.argv}>"

    @classmethod
    def from_json(cls, record: object) -> "Spec | None":
        """Read a spec of any version; None for one that is not whole."""
        if not isinstance(record, dict) or not record.keys() >= REQUIRED_KEYS["spec.json"]:
            return None
        options = StartOptions.from_json(record)
        run_as = RunAs.from_json(record.get("run_as"))
        is_account_whole = run_as is not None or record.get("run_as") is None
        if options is None or not is_account_whole or not isinstance(record["id"], str):
            return None
        return cls(
            record["id"],
            options,
            owner=_text(record, "owner"),
            run_as=run_as,
            accepted_ns=_number(record, "accepted_ns"),
            boot_id=_text(record, "boot_id"),
            more=_others(record, _SPEC_KEYS),
        )

    @classmethod
    def damaged(cls, id: str, record: object = None) -> "Spec":
        """Return what stands for a spec that cannot be read; with the owner of its `record`, if that names one."""
        spec = cls.from_json({"id": id, "argv": [], "cwd": None, "env": {}, "grace_s": 0.0, "accepted_ns": 0})
        assert spec is not None
        spec.owner = _text(record, "owner") if isinstance(record, dict) else None
        return spec

    def to_json(self) -> JsonObject:
        record = {"id": self.id, **self.options.to_json()}
        record["run_as"] = None if self.run_as is None else self.run_as.to_json()
        found = {"owner": self.owner, "accepted_ns": self.accepted_ns, "boot_id": self.boot_id}
        return record | _said(found) | self.more


_SPEC_KEYS = frozenset({"version", "id", "owner", "run_as", "accepted_ns", "boot_id"}).union(
    name for name, field in FIELDS.items() if field.is_stored
)


class ShimRecord(_Record):
    """shim.json: who watches a task, and how far it is. On the disk `shim_pid` is called `pid`.

    `task_pid` and `started_ns` are None until the command is executed, `signalled_ns` is until it is told to end.
    `grace_s` is that of the last signal. `commands` is the version of commands that the shim understands, 0 for those
    of levity 0.1, and `log_cap` is 0 where a shim kept all output.
    """

    __slots__ = (
        "boot_id",
        "commands",
        "grace_s",
        "log_cap",
        "more",
        "shim_pid",
        "signalled_ns",
        "start_ticks",
        "started_ns",
        "task_pid",
    )

    def __init__(
        self,
        shim_pid: int,
        grace_s: float,
        *,
        log_cap: int = 0,
        commands: int = 0,
        start_ticks: int | None = None,
        boot_id: str | None = None,
        task_pid: int | None = None,
        started_ns: int | None = None,
        signalled_ns: int | None = None,
        more: JsonObject | None = None,
    ) -> None:
        self.shim_pid = shim_pid
        self.grace_s = grace_s
        self.log_cap = log_cap
        self.commands = commands
        self.start_ticks = start_ticks
        self.boot_id = boot_id
        self.task_pid = task_pid
        self.started_ns = started_ns
        self.signalled_ns = signalled_ns
        self.more = more or {}

    def __repr__(self) -> str:
        return f"<ShimRecord {self.shim_pid} of {self.task_pid}>"

    @classmethod
    def from_json(cls, record: object) -> "ShimRecord | None":
        """Read a shim's record of any version; None for one that is not whole."""
        if not isinstance(record, dict):
            return None
        pid, grace_s = _number(record, "pid"), _seconds(record)
        if pid is None or grace_s is None:
            return None
        return cls(
            pid,
            grace_s,
            log_cap=_number(record, "log_cap") or 0,
            commands=_number(record, "commands") or 0,
            start_ticks=_number(record, "start_ticks"),
            boot_id=_text(record, "boot_id"),
            task_pid=_number(record, "task_pid"),
            started_ns=_number(record, "started_ns"),
            signalled_ns=_number(record, "signalled_ns"),
            more=_others(record, _SHIM_KEYS),
        )

    def to_json(self) -> JsonObject:
        record = {
            "pid": self.shim_pid,
            "start_ticks": self.start_ticks,
            "boot_id": self.boot_id,
            "grace_s": self.grace_s,
            "log_cap": self.log_cap,
            "commands": self.commands or None,
            "task_pid": self.task_pid,
            "started_ns": self.started_ns,
            "signalled_ns": self.signalled_ns,
        }
        return _said(record) | self.more


_SHIM_KEYS = frozenset(
    "version pid start_ticks boot_id grace_s log_cap commands task_pid started_ns signalled_ns".split()  # noqa: SIM905
)


class ExitRecord(_Record):
    """exit.json: how a task ended, and what of its ShimRecord outlives that.

    `exit_code` and `signal` as in levity/task.py. `stdout_bytes` and `stderr_bytes` are what was written, None where
    that cannot be known; `stored_bytes` is what its files take. `shim_pid` (on the disk `pid`), `task_pid`,
    `started_ns`, `signalled_ns` and `grace_s` are None where it did not come so far.
    """

    __slots__ = (
        "ended_ns",
        "exit_code",
        "grace_s",
        "more",
        "reason",
        "shim_pid",
        "signal",
        "signalled_ns",
        "started_ns",
        "state",
        "stderr_bytes",
        "stdout_bytes",
        "stored_bytes",
        "task_pid",
    )

    def __init__(
        self,
        state: State,
        exit_code: int | None,
        signal: str | None,
        reason: str,
        ended_ns: int,
        *,
        shim: ShimRecord | None = None,
        stdout_bytes: int | None = None,
        stderr_bytes: int | None = None,
        stored_bytes: int = 0,
    ) -> None:
        self.state = state
        self.exit_code = exit_code
        self.signal = signal
        self.reason = reason
        self.ended_ns = ended_ns
        self.shim_pid = None if shim is None else shim.shim_pid
        self.task_pid = None if shim is None else shim.task_pid
        self.started_ns = None if shim is None else shim.started_ns
        self.signalled_ns = None if shim is None else shim.signalled_ns
        self.grace_s = None if shim is None else shim.grace_s
        self.stdout_bytes = stdout_bytes
        self.stderr_bytes = stderr_bytes
        self.stored_bytes = stored_bytes
        self.more: JsonObject = {}

    def __repr__(self) -> str:
        return f"<ExitRecord {self.state} {self.exit_code}>"

    @classmethod
    def from_json(cls, record: object) -> "ExitRecord | None":
        """Read an exit record of any version, also out of a registry; None if its state is no end."""
        if not isinstance(record, dict) or record.get("state") not in _END_NAMES:
            return None
        made = cls(
            State(record["state"]),
            _number(record, "exit_code"),
            _text(record, "signal"),
            _text(record, "reason") or "",
            _number(record, "ended_ns") or 0,
            stdout_bytes=_number(record, "stdout_bytes"),
            stderr_bytes=_number(record, "stderr_bytes"),
        )
        made.shim_pid, made.task_pid = _number(record, "pid"), _number(record, "task_pid")
        made.started_ns, made.signalled_ns = _number(record, "started_ns"), _number(record, "signalled_ns")
        made.grace_s = _seconds(record)
        # Before there was this key, no output was rotated away.
        written = (made.stdout_bytes or 0) + (made.stderr_bytes or 0)
        made.stored_bytes = (_number(record, "stored_bytes") or 0) if "stored_bytes" in record else written
        made.more = _others(record, _EXIT_KEYS)
        return made

    def to_json(self) -> JsonObject:
        record = {
            "state": self.state,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "reason": self.reason,
            "signalled_ns": self.signalled_ns,
            "ended_ns": self.ended_ns,
            "stdout_bytes": self.stdout_bytes,
            "stderr_bytes": self.stderr_bytes,
            "stored_bytes": self.stored_bytes,
        }
        shim = {"pid": self.shim_pid, "task_pid": self.task_pid, "started_ns": self.started_ns, "grace_s": self.grace_s}
        return record | _said(shim) | self.more


_EXIT_KEYS = frozenset(
    "version state exit_code signal reason pid task_pid started_ns signalled_ns grace_s ended_ns "  # noqa: SIM905
    "stdout_bytes stderr_bytes stored_bytes".split()
)
_END_NAMES = [str(state) for state in ENDS]


def _said(record: JsonObject) -> JsonObject:
    """Return what of this is not None."""
    return {key: value for key, value in record.items() if value is not None}


def _others(record: JsonObject, known: "AbstractSet[str]") -> JsonObject:
    return {key: value for key, value in record.items() if key not in known}


def _number(record: JsonObject, key: str) -> int | None:
    value = record.get(key)
    return value if type(value) is int else None  # A bool is no number.


def _seconds(record: JsonObject) -> float | None:
    value = record.get("grace_s")
    return value if type(value) is float or type(value) is int else None


def _text(record: JsonObject, key: str) -> str | None:
    value = record.get(key)
    return value if isinstance(value, str) else None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _NO_ID


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and b"\0" not in text_to_bytes(value)
    except InvalidRequest:
        return False
