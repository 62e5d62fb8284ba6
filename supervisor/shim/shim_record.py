"""Write shim.json: a task is started, is signalled. Runs in: shim, the task's own process before execve(2).

Owns: nothing. From this file the engine knows that a task is Running or Signalled; how it ended is in exit_record.py.
"""

import os
import time

from supervisor.hostos.procfs import start_ticks
from supervisor.spool.commands import COMMANDS_VERSION
from supervisor.spool.files import insist, load_record, write_record
from supervisor.spool.layout import SHIM, STARTED
from supervisor.spool.records import DEFAULT_GRACE_S, ShimRecord, Spec

__all__ = ["load_shim_record", "prepare_start", "write_signalled"]


def prepare_start(directory_fd: int, spec: Spec, shim: int, boot_id: str) -> None:
    """Write two records: SHIM says which shim watches the task, STARTED also that this process is the task's.

    As soon as the command is executed, the shim renames STARTED over SHIM (supervisor/shim/start.py).
    """
    record = ShimRecord(
        shim,
        spec.options.grace_s,
        log_cap=spec.options.log_cap,
        start_ticks=start_ticks(shim),
        boot_id=boot_id,
        commands=COMMANDS_VERSION,
    )
    write_record(directory_fd, SHIM, record.to_json(), durable=False)
    record.task_pid, record.started_ns = os.getpid(), time.time_ns()
    write_record(directory_fd, STARTED, record.to_json(), durable=False)


def load_shim_record(directory_fd: int, leader: int) -> ShimRecord:
    """Return the record of the task whose leader has this pid; wait for a disk that cannot be read now."""
    loaded = insist(directory_fd, lambda: load_record(directory_fd, SHIM))
    return ShimRecord.from_json(loaded) or ShimRecord(os.getpid(), DEFAULT_GRACE_S, task_pid=leader)


def write_signalled(directory_fd: int, record: ShimRecord) -> None:
    """Write when the shim was told to signal the task, and the grace period; OSError if the disk does not take it."""
    write_record(directory_fd, SHIM, record.to_json(), durable=False)
