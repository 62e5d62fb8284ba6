"""Make, observe and remove a task's directory.

Runs in: engine. Owns: nothing. The working directory is the state directory.
"""

import os
import shutil
from dataclasses import dataclass

from supervisor.hostos.locks import lock_holder
from supervisor.spool.files import load_record, write_record
from supervisor.spool.layout import EXIT, LOCK, SHIM, SPEC, TASKS, is_task_id, parse_segment, task_path
from supervisor.spool.records import JsonObject

__all__ = [
    "Observation",
    "create",
    "load_spec",
    "observe",
    "remove",
    "shim_of",
    "spool_sizes",
    "store_exit",
    "task_ids",
]


@dataclass(frozen=True)
class Observation:
    """What a task's directory says: who holds its lock (0: nobody), and its records as far as they exist."""

    holder: int
    shim: JsonObject | None
    exit: JsonObject | None


def task_ids() -> list[str]:
    """Return the ids of all directories."""
    return [name for name in os.listdir(TASKS) if is_task_id(name)]


def _open(task_id: str) -> int:
    return os.open(task_path(task_id), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def create(task_id: str, spec: JsonObject) -> None:
    """Write down what was asked; OSError when the disk does not take it (nothing is left then).

    Not durable yet: that costs milliseconds and is done by the task's own shim, before the command is executed.
    """
    os.mkdir(task_path(task_id), 0o700)
    try:
        directory_fd = _open(task_id)
        try:
            write_record(directory_fd, SPEC, spec, durable=False)
        finally:
            os.close(directory_fd)
    except OSError:
        remove(task_id)
        raise


def load_spec(task_id: str) -> JsonObject | None:
    """Return what was asked; None for a directory that was not made to its end."""
    directory_fd = _open(task_id)
    try:
        return load_record(directory_fd, SPEC)
    finally:
        os.close(directory_fd)


def observe(task_id: str) -> Observation:
    """Look at a task's directory; FileNotFoundError if it is gone.

    The order matters, since a shim may come or go meanwhile. SHIM is written and removed only under the lock. So a
    shim is gone for good only if its name was there before the lock was found free, and still is afterwards; and the
    exit record, which it writes before it lets go of the lock, is looked for last.
    """
    directory_fd = _open(task_id)
    try:
        shim = load_record(directory_fd, SHIM)
        holder = _holder(directory_fd)
        if not holder:
            after = load_record(directory_fd, SHIM)
            shim = shim if shim and after and shim.get("pid") == after.get("pid") else None
        return Observation(holder, shim, load_record(directory_fd, EXIT))
    finally:
        os.close(directory_fd)


def shim_of(task_id: str) -> int:
    """Return the pid of the shim that has the task now; 0 if none has."""
    directory_fd = _open(task_id)
    try:
        return _holder(directory_fd)
    finally:
        os.close(directory_fd)


def _holder(directory_fd: int) -> int:
    try:
        lock_fd = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    except FileNotFoundError:
        return 0
    try:
        return lock_holder(lock_fd)
    finally:
        os.close(lock_fd)


def store_exit(task_id: str, record: JsonObject) -> None:
    """Write the exit record of a task whose shim is gone; OSError when the disk does not take it."""
    directory_fd = _open(task_id)
    try:
        write_record(directory_fd, EXIT, record, durable=True)
    finally:
        os.close(directory_fd)


def spool_sizes(task_id: str) -> dict[str, int]:
    """Return how many bytes of each stream are stored."""
    ends = {"stdout": 0, "stderr": 0}
    for entry in os.scandir(task_path(task_id)):
        segment = parse_segment(entry.name)
        if segment and segment[0] in ends:
            ends[segment[0]] = max(ends[segment[0]], segment[1] + entry.stat().st_size)
    return ends


def remove(task_id: str) -> None:
    """Remove a task's directory."""
    shutil.rmtree(task_path(task_id), ignore_errors=True)
