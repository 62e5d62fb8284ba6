"""Files that only one user may read: made so, and not believed otherwise. Runs in: arbiter, engine. Owns: nothing.

Every function takes an open directory and a name in it: no link on the way can be changed meanwhile.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from levity.errors import LevityError
from supervisor.hostos import files
from supervisor.hostos.locks import open_lock, wait_for_lock

__all__ = ["NotPrivateError", "create", "locked", "make_directory", "open_directory", "read", "replace"]


class NotPrivateError(LevityError):
    """A file or directory that other users can read or have made, or of the wrong kind: it is not to be believed.

    The message calls it "it".
    """


def open_directory(path: str, directory_fd: int | None = None) -> int:
    """Return the descriptor of a directory that is this user's alone; OSError, or NotPrivateError if it is not."""
    fd = files.open_directory(path, directory_fd)
    try:
        _check(os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_directory(name: str, directory_fd: int) -> int:
    """Make a directory for this user alone, if it is not there, and return its descriptor; as open_directory does."""
    try:
        os.mkdir(name, 0o700, dir_fd=directory_fd)
        os.fsync(directory_fd)
    except FileExistsError:
        pass
    return open_directory(name, directory_fd)


def read(directory_fd: int, name: str, limit: int) -> bytes | None:
    """Return the content of a file, at most `limit` bytes of it; None if there is no such file.

    NotPrivateError if it is not this user's alone; OSError.
    """
    try:
        fd = files.open_to_read(name, directory_fd)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivateError("it is no regular file")
        _check(found)
        return os.read(fd, limit)
    finally:
        os.close(fd)


def _check(found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise NotPrivateError(f"it belongs to user {found.st_uid}, not to {os.geteuid()}")
    if found.st_mode & 0o077:
        raise NotPrivateError(f"it has mode {stat.S_IMODE(found.st_mode):04o}, so that others can get at it")


def create(directory_fd: int, name: str, data: bytes) -> None:
    """Make a file that was not there, whole or not at all, and durably; FileExistsError, OSError."""
    temporary = _write(directory_fd, name, data)
    try:
        # Unlike rename(2), link(2) replaces nothing.
        os.link(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd, follow_symlinks=False)
    finally:
        os.unlink(temporary, dir_fd=directory_fd)
    os.fsync(directory_fd)


def replace(directory_fd: int, name: str, data: bytes) -> None:
    """Replace a file's content by `data`, whole or not at all, and durably; OSError."""
    temporary = _write(directory_fd, name, data)
    files.put_in_place(temporary, name, directory_fd, durable=True)


def _write(directory_fd: int, name: str, data: bytes) -> str:
    """Write to a temporary file, whose name begins with a dot, and return that name."""
    # Random, for two processes may do this at a time. Callers of which only one may succeed take the lock.
    temporary = f".{name}.{os.urandom(8).hex()}"
    try:
        files.write_file(temporary, directory_fd, data, durable=True, is_new=True)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory_fd)
        raise
    return temporary


@contextmanager
def locked(directory_fd: int, name: str) -> Iterator[None]:
    """Hold a lock that keeps out other processes that take it; the lock of a killed process is free again."""
    fd = open_lock(name, directory_fd)
    try:
        wait_for_lock(fd, 0)
        yield
    finally:
        os.close(fd)
