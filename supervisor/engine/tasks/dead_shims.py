"""Tasks whose shim died without leaving an exit record: kill what is left of them, then write that record.

Runs in: engine. Owns: nothing.
"""

import time

from levity.channel_binding import boot_id
from levity.states import State
from supervisor.engine.storage import task_directory as directory
from supervisor.hostos.processes import kill_trees
from supervisor.spool.records import ExitRecord, ShimRecord

__all__ = ["DeadShims"]

_MARK = "LEVITY_TASK_ID"
# A killed process is gone within a tick; a tree that forks meanwhile takes some rounds.
_ROUND_S = 0.02
# A process that outlives SIGKILL for so long sleeps in the kernel, or belongs to another user.
_KILL_LIMIT_S = 10.0
_DISK_RETRY_S = 1.0


class _Loss:
    """One lost task: its shim's record, if the shim wrote one, and whether a process of the task may still run."""

    __slots__ = ("give_up_at", "may_live", "shim", "was_rebooted", "watched")

    def __init__(self, shim: ShimRecord | None, *, was_rebooted: bool, watched: bool) -> None:
        self.shim = shim
        self.was_rebooted = was_rebooted
        self.watched = watched
        self.may_live = shim is not None and not was_rebooted
        self.give_up_at: float | None = None

    @property
    def tree(self) -> tuple[int, int]:
        """The session and the group that prove a process to be the task's; (0, 0) if only its mark proves that.

        They prove it only if the engine was watching when the shim died: later, others may have their numbers.
        """
        if self.shim is None or not self.watched:
            return 0, 0
        return self.shim.shim_pid, self.shim.task_pid or 0

    @property
    def reason(self) -> str:
        if self.was_rebooted:
            return "the machine was restarted while the task ran; how it ended is not known"
        if self.shim is None:
            return "never started: levityd ended before it could start the command; start it again"
        return "monitor lost: the process that watched over the task was killed, and the task with it"


class DeadShims:
    """All lost tasks. `step` does a bit of the work; `delay_s` says when to call it again."""

    def __init__(self) -> None:
        self._lost: dict[str, _Loss] = {}

    def __repr__(self) -> str:
        return f"<DeadShims {len(self._lost)}>"

    def add(self, task_id: str, shim: ShimRecord | None, lived_in: str | None, *, watched: bool) -> None:
        """Take on a task.

        `shim` is its shim's record, None if it wrote none. `lived_in` is the boot in which the shim lived, None if that
        is not known. `watched`: the shim died while this engine was watching it.
        """
        self._lost[task_id] = _Loss(shim, was_rebooted=lived_in not in (None, boot_id()), watched=watched)

    @property
    def delay_s(self) -> float | None:
        """In how many seconds `step` is due; None while no task is lost."""
        if not self._lost:
            return None
        return _ROUND_S if any(loss.may_live for loss in self._lost.values()) else _DISK_RETRY_S

    def step(self, now: float) -> dict[str, ExitRecord]:
        """Kill what is left of all; store and return the exit records of the tasks of which nothing is left."""
        self._kill(now)
        done = {}
        for task_id, loss in list(self._lost.items()):
            if not loss.may_live and (outcome := _store(task_id, loss)) is not None:
                del self._lost[task_id]
                done[task_id] = outcome
        return done

    def _kill(self, now: float) -> None:
        suspects = {task_id: loss for task_id, loss in self._lost.items() if loss.may_live}
        if not suspects:
            return
        found = kill_trees(_MARK, {task_id: loss.tree for task_id, loss in suspects.items()})
        for task_id, loss in suspects.items():
            if loss.give_up_at is None:
                loss.give_up_at = now + _KILL_LIMIT_S
            loss.may_live = task_id in found and now < loss.give_up_at


def _store(task_id: str, loss: _Loss) -> ExitRecord | None:
    """Write and return the exit record; None if the disk does not take it now."""
    outcome = _outcome(task_id, loss)
    try:
        directory.store_exit(task_id, outcome)
    except FileNotFoundError:
        outcome.reason = "its directory was removed from levityd's state directory"
    except OSError:
        return None
    return outcome


def _outcome(task_id: str, loss: _Loss) -> ExitRecord:
    try:
        sizes, stored_bytes = directory.spool_sizes(task_id), directory.stored_bytes(task_id)
    except OSError:
        sizes, stored_bytes = {}, 0
    return ExitRecord(
        State.INTERNAL_SERVER_ERROR,
        None,
        None,
        loss.reason,
        time.time_ns(),
        shim=loss.shim,
        stdout_bytes=sizes.get("stdout"),
        stderr_bytes=sizes.get("stderr"),
        stored_bytes=stored_bytes,
    )
