"""A task whose shim is gone without a record.

End what is left of it, then record that. Runs in: engine. Owns: nothing.
"""

import time

from levity.states import State
from supervisor.engine import directory
from supervisor.hostos.processes import kill_tree_of
from supervisor.hostos.procfs import boot_id
from supervisor.spool.records import JsonObject

__all__ = ["Loss"]

# A killed process is gone within a tick; a tree that forks meanwhile takes some rounds.
_ROUND_S = 0.02
# What SIGKILL has not ended by then sleeps in the kernel or belongs to another user.
_KILL_LIMIT_S = 10.0
_DISK_RETRY_S = 1.0


class Loss:
    """One such task. `shim`: what its shim.json said; `watched`: the shim died while this engine was watching it."""

    def __init__(self, task_id: str, shim: JsonObject, *, watched: bool, now: float) -> None:
        self.task_id = task_id
        self.outcome: JsonObject = {}
        self._shim = shim
        self._watched = watched
        self._give_up_at = now + _KILL_LIMIT_S
        self._rebooted = "boot_id" in shim and shim["boot_id"] != boot_id()
        self._killed = self._rebooted or not shim

    def __repr__(self) -> str:
        return f"<Loss {self.task_id}{' stored' * bool(self.outcome)}>"

    def step(self, now: float) -> float | None:
        """Do the next bit. Return in how many seconds to call again; None once `outcome` is on the disk."""
        if not self._killed:
            if self._kill() and now < self._give_up_at:
                return _ROUND_S
            self._killed = True
        outcome = self._make_outcome()
        try:
            directory.store_exit(self.task_id, outcome)
        except FileNotFoundError:
            outcome["reason"] = "its directory was removed from levityd's state directory"
        except OSError:
            return _DISK_RETRY_S
        self.outcome = outcome
        return None

    def _kill(self) -> int:
        # Only while the engine was watching are the session and the group that the shim made surely theirs: later, the
        # numbers may belong to strangers, and only the mark in the environment is proof.
        session, group = (self._shim.get("pid", 0), self._shim.get("task_pid", 0)) if self._watched else (0, 0)
        return kill_tree_of(("LEVITY_TASK_ID", self.task_id), session, group)

    def _make_outcome(self) -> JsonObject:
        outcome: JsonObject = {"state": State.INTERNAL_SERVER_ERROR, "exit_code": None, "signal": None}
        outcome["reason"] = self._reason()
        for key in ("pid", "task_pid", "started_ns", "signalled_ns", "grace_s"):
            if key in self._shim:
                outcome[key] = self._shim[key]
        outcome["ended_ns"] = time.time_ns()
        try:
            sizes = directory.spool_sizes(self.task_id)
        except OSError:
            sizes = {}
        outcome["stdout_bytes"], outcome["stderr_bytes"] = sizes.get("stdout"), sizes.get("stderr")
        return outcome

    def _reason(self) -> str:
        if not self._shim:
            return "never started: levityd ended before it could start the command; start it again"
        if self._rebooted:
            return "the machine was restarted while the task ran; how it ended is not known"
        return "monitor lost: the process that watched over the task was killed, and the task with it"
