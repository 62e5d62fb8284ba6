"""What a task's directory says of the task, and what that means. Runs in: engine. Owns: nothing."""

import os
from dataclasses import dataclass
from enum import Enum

from supervisor.hostos.locks import lock_holder, open_lock
from supervisor.spool.files import load_record, open_task
from supervisor.spool.layout import DISK_ERROR_BYTE, EXIT, LOCK, NO_SPACE_BYTE, SHIM, WATCH_BYTE
from supervisor.spool.records import ExitRecord, ShimRecord

__all__ = ["Finding", "Observation", "classify", "observe", "shim_of"]


@dataclass(frozen=True)
class Observation:
    """What a task's directory says: the pid of the shim that holds its lock (0: none), and the records that exist.

    `blocked` is the byte by which the shim says why it cannot store output, 0 while it can. Beside an exit record
    nothing else is looked for: `holder` is 0 then, `shim` None.
    """

    holder: int
    shim: ShimRecord | None
    exit: ExitRecord | None
    blocked: int = 0


class Finding(Enum):
    """What has become of a task."""

    OVER = "its exit record is there"
    RUNNING = "a shim has it, and its command is executed"
    STARTING = "a shim has it, but its command is not executed yet"
    NEVER_STARTED = "no shim has it, and none ever wrote its name there"
    LOST = "its shim is gone without an exit record"


def classify(seen: Observation) -> Finding:
    """Return what an observation means. Every observation has a meaning."""
    if seen.exit is not None:
        return Finding.OVER
    if seen.holder:
        return Finding.RUNNING if seen.shim is not None and seen.shim.task_pid is not None else Finding.STARTING
    # A shim that wrote its name but not "started" counts as lost: it may have executed the command before it died.
    return Finding.NEVER_STARTED if seen.shim is None else Finding.LOST


def observe(task_id: str) -> Observation:
    """Look at a task's directory; FileNotFoundError if it is gone.

    An exit record says all, and nothing else is read beside it. Where there is none the order matters, since a shim may
    come or go meanwhile. A shim writes and removes SHIM only under the lock. So it is gone for good only if SHIM named
    it before the lock was found free, and still does afterwards. It writes the exit record before it lets go of the
    lock, so that is looked for again, last.
    """
    directory_fd = open_task(task_id)
    try:
        if (over := ExitRecord.from_json(load_record(directory_fd, EXIT))) is not None:
            return Observation(0, None, over)
        shim = ShimRecord.from_json(load_record(directory_fd, SHIM))
        holder, blocked = _holder(directory_fd)
        if not holder:
            after = ShimRecord.from_json(load_record(directory_fd, SHIM))
            shim = shim if shim and after and shim.shim_pid == after.shim_pid else None
        return Observation(holder, shim, ExitRecord.from_json(load_record(directory_fd, EXIT)), blocked)
    finally:
        os.close(directory_fd)


def shim_of(task_id: str) -> int:
    """Return the pid of the shim that has the task now; 0 if none has."""
    directory_fd = open_task(task_id)
    try:
        return _holder(directory_fd)[0]
    finally:
        os.close(directory_fd)


def _holder(directory_fd: int) -> tuple[int, int]:
    """Return the pid of the shim (0: there is none), and the byte that it locks while it cannot store output (or 0)."""
    try:
        lock_fd = open_lock(LOCK, directory_fd, create=False)
    except FileNotFoundError:
        return 0, 0
    try:
        holder = lock_holder(lock_fd, WATCH_BYTE)
        said = (byte for byte in (NO_SPACE_BYTE, DISK_ERROR_BYTE) if holder and lock_holder(lock_fd, byte) == holder)
        return holder, next(said, 0)
    finally:
        os.close(lock_fd)
