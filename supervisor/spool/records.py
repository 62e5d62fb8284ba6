"""The JSON records of a task's directory: what their keys mean. Runs in: shim, engine, front-end. Owns: nothing.

spec.json   id, argv, cwd, env, grace_s, stdin, merged, log_cap, accepted_ns, boot_id: what was asked, when, and in
            which boot of the machine. stdin: a client sends input; merged: both outputs are one; log_cap: how many
            bytes of output are kept, 0 for all. run_as: whom the task runs as, missing or null for levityd's user:
            uid, gid, groups (numbers), name, home, shell; name is "" for one without account
shim.json   pid, start_ticks, boot_id, log_cap: who watches; commands: which version of commands it understands
            (supervisor/spool/commands.py), missing where that has no verbs; then task_pid, started_ns; then
            signalled_ns, grace_s
exit.json   state, exit_code, signal, reason, ended_ns, and the times above; stdout_bytes, stderr_bytes: what was
            written; stored_bytes: what its files take

Times are nanoseconds since the epoch. Every record has a `version`.
"""

__all__ = ["DEFAULT_GRACE_S", "REQUIRED_KEYS", "JsonObject", "RecordVersionError"]

# Without these a record is none: nobody has to ask for them.
REQUIRED_KEYS = {
    "spec.json": frozenset({"id", "argv", "cwd", "env", "grace_s"}),
    "shim.json": frozenset({"pid", "grace_s"}),
    "exit.json": frozenset({"state", "exit_code", "signal", "reason", "ended_ns"}),
}
# How long a task has between SIGTERM and SIGKILL when neither its start nor the signal said so.
DEFAULT_GRACE_S = 5.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    JsonObject = dict[str, Any]
else:
    JsonObject = dict


class RecordVersionError(Exception):
    """A record was written by a newer levity."""
