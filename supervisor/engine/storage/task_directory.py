"""Make, observe and remove a task's directory.

Runs in: engine. Owns: nothing. The working directory is the state directory.

Where levityd is root, the front-end is not, and is lent open directories of single tasks: by them, and by nothing else,
it gets at output, index and exit record. For that the directory, and so what is made in it (the set-group-id bit),
belongs to its group. It can change none of it, sees of the rest but the names, and may not enter tasks/.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from supervisor.hostos.locks import lock_holder
from supervisor.spool.files import load_record, write_record
from supervisor.spool.layout import (
    DISK_ERROR_BYTE,
    EXIT,
    LOCK,
    NO_SPACE_BYTE,
    OUTPUT_MODE,
    PRIVATE_MODE,
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
from supervisor.spool.records import ExitRecord, ShimRecord, Spec

__all__ = [
    "Observation",
    "create",
    "lend",
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

# Of a directory that the front-end's group may read; and of one that an older levity made and a shim may still be at,
# which makes files that are to be mended.
_SHARED_MODE, _UNFINISHED_MODE = 0o2750, 0o750
_GROUP_ENTERS = 0o050


@dataclass(frozen=True)
class Observation:
    """What a task's directory says: who holds its lock (0: nobody), and its records as far as they exist.

    `blocked` is the byte by which the shim says why it cannot store output, 0 while it can.
    """

    holder: int
    shim: ShimRecord | None
    exit: ExitRecord | None
    blocked: int = 0


def task_ids() -> list[str]:
    """Return the ids of all directories."""
    return [name for name in os.listdir(TASKS) if is_task_id(name)]


def _open(task_id: str) -> int:
    return os.open(task_path(task_id), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def create(task_id: str, spec: Spec, gid: int | None = None) -> None:
    """Write down what was asked; OSError when the disk does not take it (nothing is left then).

    `gid` is the group that may read the output, None where levityd's user alone reads everything.
    Not durable yet: that costs milliseconds and is done by the task's own shim, before the command is executed.
    """
    os.mkdir(task_path(task_id), 0o700)
    try:
        directory_fd = _open(task_id)
        try:
            if gid is not None:
                os.fchown(directory_fd, -1, gid)
                os.fchmod(directory_fd, _SHARED_MODE)
            if spec.options.stdin:
                os.mkfifo(STDIN, PRIVATE_MODE, dir_fd=directory_fd)
            write_record(directory_fd, SPEC, spec.to_json(), durable=False)
        finally:
            os.close(directory_fd)
    except OSError:
        remove(task_id)
        raise


def lend(task_id: str, gid: int | None = None) -> int:
    """Open a task's directory for the front-end, whose group is `gid` (None: it is this process's user anyway).

    OSError if it is gone, or cannot be made readable. One that an older levity has made, or another group could read,
    is mended.
    """
    directory_fd = _open(task_id)
    try:
        if gid is not None:
            found = os.fstat(directory_fd)
            if (found.st_gid, stat.S_IMODE(found.st_mode)) != (gid, _SHARED_MODE):
                _mend(directory_fd, gid)
    except OSError:
        os.close(directory_fd)
        raise
    return directory_fd


def _mend(directory_fd: int, gid: int) -> None:
    """Give everything that may be lent to the group; the directory last, which says that it is done."""
    names = os.listdir(directory_fd)
    for name in names:
        if name in (EXIT, REMOVED) or _is_output(name):
            _share(directory_fd, name, gid)
    os.fchown(directory_fd, -1, gid)
    os.fchmod(directory_fd, _SHARED_MODE if EXIT in names else _UNFINISHED_MODE)


def _is_output(name: str) -> bool:
    segment = parse_segment(name)
    return segment is not None and segment[0] != STDIN


def _share(directory_fd: int, name: str, gid: int) -> None:
    try:
        # Not waiting for the other end, should it be a FIFO.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=directory_fd)
    except FileNotFoundError:
        return  # Just removed.
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchown(fd, -1, gid)
            os.fchmod(fd, OUTPUT_MODE)
    finally:
        os.close(fd)


def load_spec(task_id: str) -> Spec | None:
    """Return what was asked; None for a directory that was not made to its end."""
    directory_fd = _open(task_id)
    try:
        return Spec.from_json(load_record(directory_fd, SPEC))
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


def store_exit(task_id: str, record: ExitRecord) -> None:
    """Write the exit record of a task whose shim is gone; OSError when the disk does not take it."""
    directory_fd = _open(task_id)
    try:
        with _shared(directory_fd):
            write_record(directory_fd, EXIT, record.to_json(), durable=True, mode=OUTPUT_MODE)
    finally:
        os.close(directory_fd)


@contextmanager
def _shared(directory_fd: int) -> Iterator[None]:
    """Have the group be able to read what is made meanwhile, if it may enter: this process has but one thread."""
    enters = os.fstat(directory_fd).st_mode & _GROUP_ENTERS == _GROUP_ENTERS
    before = os.umask(0o027 if enters else 0o077)
    try:
        yield
    finally:
        os.umask(before)


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
        with _shared(directory_fd):
            os.close(os.open(REMOVED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, OUTPUT_MODE, dir_fd=directory_fd))
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
