"""What an observation of a task's directory means. Runs in: engine. Owns: nothing. Never: does I/O."""

from enum import Enum

from supervisor.engine.storage.task_directory import Observation

__all__ = ["Finding", "judge"]


class Finding(Enum):
    """What has become of a task."""

    OVER = "its exit record is there"
    RUNNING = "a shim has it, and its command is executed"
    STARTING = "a shim has it, but its command is not executed yet"
    NEVER_STARTED = "no shim has it, and none ever wrote its name there"
    LOST = "its shim is gone without an exit record"


def judge(seen: Observation) -> Finding:
    """Say what an observation means; total over all of them."""
    if seen.exit is not None:
        return Finding.OVER
    if seen.holder:
        return Finding.RUNNING if seen.shim is not None and seen.shim.task_pid is not None else Finding.STARTING
    # A shim's name without "started" counts as lost: it may have executed the command and been killed right after.
    return Finding.NEVER_STARTED if seen.shim is None else Finding.LOST
