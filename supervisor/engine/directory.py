"""Make, observe and remove a task's directory.

Runs in: engine. Owns: nothing. The working directory is the state directory.
"""

import errno
import os
import shutil
from dataclasses import dataclass

from supervisor.hostos.locks import lock_holder
from supervisor.spool.files import load_record, write_record
from supervisor.spool.layout import (
    DISK_ERROR_BYTE,
    EXIT,
    LOCK,
    NO_SPACE_BYTE,
    REMOVED,
    SHIM,
    SPEC,
    STDIN,
    TASKS,
    WATCH_BYTE,
    is_task_id,
    parse_segment,
    task_path,
)
from supervisor.spool.records import JsonObject

__all__ = [
    "Observation",
    "create",
    "load_spec",
    "observe",
    "remove",
    "remove_output",
    "shim_of",
    "spool_sizes",
    "store_exit",
    "stored_bytes",
    "task_ids",
]


@dataclass(frozen=True)
class Observation:
    """What a task's directory says: who holds its lock (0: nobody), and its records as far as they exist.

    `blocked` is the byte by which the shim says why it cannot store output, 0 while it can.
    """

    holder: int
    shim: JsonObject | None
    exit: JsonObject | None
    blocked: int = 0


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
            if spec["stdin"]:
                os.mkfifo(STDIN, 0o600, dir_fd=directory_fd)
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
        holder, blocked = _holder(directory_fd)
        if not holder:
            after = load_record(directory_fd, SHIM)
            shim = shim if shim and after and shim.get("pid") == after.get("pid") else None
        return Observation(holder, shim, load_record(directory_fd, EXIT), blocked)
    finally:
        os.close(directory_fd)


def shim_of(task_id: str) -> int:
    """Return the pid of the shim that has the task now; 0 if none has."""
    directory_fd = _open(task_id)
    try:
        return _holder(directory_fd)[0]
    finally:
        os.close(directory_fd)


def _holder(directory_fd: int) -> tuple[int, int]:
    """Return the pid of the shim (0 if there is none), and the byte by which it says that its output waits (or 0)."""
    try:
        lock_fd = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    except FileNotFoundError:
        return 0, 0
    try:
        holder = lock_holder(lock_fd, WATCH_BYTE)
        said = (byte for byte in (NO_SPACE_BYTE, DISK_ERROR_BYTE) if holder and lock_holder(lock_fd, byte) == holder)
        return holder, next(said, 0)
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


def stored_bytes(task_id: str) -> int:
    """Return how many bytes the output files have, the index included; FileNotFoundError if the directory is gone."""
    with os.scandir(task_path(task_id)) as entries:
        return sum(_size(entry) for entry in entries if parse_segment(entry.name))


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0  # Just removed.


def remove_output(task_id: str, limit_bytes: int) -> tuple[int, bool]:
    """Remove what a task that is over has written, and what it was fed; return how many bytes, and if that was all.

    It stops after the file with which `limit_bytes` is reached. The index goes last: as long as it is there, it tells a
    reader how many bytes are gone; and a mark says that they went on purpose. Nothing is left to do for a directory
    that is not there any more; OSError when something cannot be removed.
    """
    try:
        directory_fd = _open(task_id)
    except FileNotFoundError:
        return 0, True
    removed = 0
    try:
        _mark_removed(directory_fd)
        names = [name for name in os.listdir(directory_fd) if parse_segment(name) or name.startswith(f"{STDIN}.")]
        for name in sorted(names, key=_index_last):
            if removed >= limit_bytes:
                return removed, False
            removed += _unlink(directory_fd, name)
        return removed, True
    finally:
        os.close(directory_fd)


def _mark_removed(directory_fd: int) -> None:
    try:
        os.close(os.open(REMOVED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory_fd))
    except OSError as error:
        # There may be no room even for that: then what is removed first looks lost to who reads it just now.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _index_last(name: str) -> tuple[bool, str]:
    return name.startswith("index"), name


def _unlink(directory_fd: int, name: str) -> int:
    try:
        size = os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_size
        os.unlink(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return 0
    return size


def remove(task_id: str) -> None:
    """Remove a task's directory."""
    shutil.rmtree(task_path(task_id), ignore_errors=True)
