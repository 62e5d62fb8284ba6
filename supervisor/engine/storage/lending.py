"""Lend a task's open directory to the front-end. Runs in: engine. Owns: nothing.

Under a root levityd the front-end is another user. By the lent directory, and by nothing else, it reads the output, the
index and the exit record of that one task. They belong to its group for that, as does the directory with the
set-group-id bit, so that what is made in it later does, too. The front-end can change none of it, sees only the names
of the other files, and may not enter tasks/.
"""

import os
import stat

from supervisor.engine.storage.task_directory import SHARED_MODE
from supervisor.hostos.files import open_to_read
from supervisor.spool.files import open_task
from supervisor.spool.layout import EXIT, OUTPUT_MODE, REMOVED, STDIN, parse_segment

__all__ = ["lend"]

# Of a directory that an older levity made: its shim may still make files there, which are to be mended later.
_UNFINISHED_MODE = 0o750


def lend(task_id: str, gid: int | None = None) -> int:
    """Open a task's directory for the front-end, whose group is `gid` (None: it runs as this process's user).

    A directory that an older levity made, or that has another group, is mended. OSError if it is gone, or cannot be
    made readable.
    """
    directory_fd = open_task(task_id)
    try:
        if gid is not None:
            found = os.fstat(directory_fd)
            if (found.st_gid, stat.S_IMODE(found.st_mode)) != (gid, SHARED_MODE):
                _mend(directory_fd, gid)
    except OSError:
        os.close(directory_fd)
        raise
    return directory_fd


def _mend(directory_fd: int, gid: int) -> None:
    """Give all that the front-end reads to its group. The directory comes last: its mode says that this is done."""
    names = os.listdir(directory_fd)
    for name in names:
        if name in (EXIT, REMOVED) or _is_output(name):
            _share(directory_fd, name, gid)
    os.fchown(directory_fd, -1, gid)
    os.fchmod(directory_fd, SHARED_MODE if EXIT in names else _UNFINISHED_MODE)


def _is_output(name: str) -> bool:
    segment = parse_segment(name)
    return segment is not None and segment[0] != STDIN


def _share(directory_fd: int, name: str, gid: int) -> None:
    try:
        fd = open_to_read(name, directory_fd)
    except FileNotFoundError:
        return  # Just removed.
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchown(fd, -1, gid)
            os.fchmod(fd, OUTPUT_MODE)
    finally:
        os.close(fd)
