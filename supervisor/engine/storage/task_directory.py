"""Make, read, sweep and remove a task's directory. Runs in: engine. Owns: nothing.

The working directory is the state directory. Where levityd is root, what the front-end may read belongs to its group
(lending.py).
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from supervisor.hostos.files import make_mark
from supervisor.spool.files import load_record, open_task, write_record
from supervisor.spool.layout import (
    EXIT,
    OUTPUT_MODE,
    PRIVATE_MODE,
    REMOVED,
    SPEC,
    STDIN,
    TASKS,
    is_task_id,
    parse_segment,
    task_path,
)
from supervisor.spool.records import ExitRecord, Spec

__all__ = [
    "SHARED_MODE",
    "create",
    "load_spec",
    "remove",
    "remove_output",
    "spool_sizes",
    "store_exit",
    "stored_bytes",
    "task_ids",
]

# Of a directory that the front-end's group may read.
SHARED_MODE = 0o2750
_GROUP_ENTERS = 0o050


def task_ids() -> list[str]:
    """Return the ids of all directories."""
    return [name for name in os.listdir(TASKS) if is_task_id(name)]


def create(task_id: str, spec: Spec, gid: int | None = None) -> None:
    """Make a task's directory with its spec; OSError when the disk does not take it (nothing is left then).

    `gid` is the group that may read the output, None where levityd's user alone reads everything.
    The spec is not synced here, which costs milliseconds: the task's own shim does that before it executes the command.
    """
    os.mkdir(task_path(task_id), 0o700)
    try:
        directory_fd = open_task(task_id)
        try:
            if gid is not None:
                os.fchown(directory_fd, -1, gid)
                os.fchmod(directory_fd, SHARED_MODE)
            if spec.options.stdin:
                os.mkfifo(STDIN, PRIVATE_MODE, dir_fd=directory_fd)
            write_record(directory_fd, SPEC, spec.to_json(), durable=False)
        finally:
            os.close(directory_fd)
    except OSError:
        remove(task_id)
        raise


def load_spec(task_id: str) -> Spec | None:
    """Return a task's spec; None for a directory that was not made to its end."""
    directory_fd = open_task(task_id)
    try:
        return Spec.from_json(load_record(directory_fd, SPEC))
    finally:
        os.close(directory_fd)


def store_exit(task_id: str, record: ExitRecord) -> None:
    """Write the exit record of a task whose shim is gone; OSError when the disk does not take it."""
    directory_fd = open_task(task_id)
    try:
        with _shared(directory_fd):
            write_record(directory_fd, EXIT, record.to_json(), durable=True, mode=OUTPUT_MODE)
    finally:
        os.close(directory_fd)


@contextmanager
def _shared(directory_fd: int) -> Iterator[None]:
    """Let the directory's group read files that are made meanwhile, if it may enter. The engine has but one thread."""
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
    """Remove output and input of a task that is over; return how many bytes that were, and whether it was all.

    It stops after the file with which `limit_bytes` is reached. The index goes last: while it is there, a reader learns
    from it how many bytes are gone. A mark says that they went on purpose. A directory that is gone counts as done.
    OSError when a file cannot be removed.
    """
    try:
        directory_fd = open_task(task_id)
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
            make_mark(REMOVED, directory_fd, OUTPUT_MODE)
    except OSError as error:
        # Without room for the mark, a client that reads just now takes the first bytes that go for lost.
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
