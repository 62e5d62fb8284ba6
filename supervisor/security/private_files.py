"""Files that only one user may read: made so, and not believed otherwise. Runs in: arbiter, engine. Owns: nothing.

Every function takes an open directory and a name in it: no link on the way can be changed meanwhile.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from levity.errors import LevityError
from supervisor.hostos.locks import wait_for_lock

__all__ = ["NotPrivateError", "create", "locked", "make_directory", "open_directory", "read", "replace"]

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPrivateError(LevityError):
    """A file or directory that other users can read or have made, or of the wrong kind: it is not to be believed.

    The message calls it "it".
    """


def open_directory(path: str, directory_fd: int | None = None) -> int:
    """Return the descriptor of a directory that is this user's alone; OSError, or NotPrivateError if it is not."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
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
        # O_NONBLOCK: to open a FIFO in its place would block.
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory_fd)
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
    os.rename(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    os.fsync(directory_fd)


def _write(directory_fd: int, name: str, data: bytes) -> str:
    """Write to a temporary file, whose name begins with a dot, and return that name."""
    # Random, for two processes may do this at a time. Callers of which only one may succeed take the lock.
    temporary = f".{name}.{os.urandom(8).hex()}"
    fd = os.open(temporary, _WRITE, 0o600, dir_fd=directory_fd)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(fd, left) :]
            os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        os.unlink(temporary, dir_fd=directory_fd)
        raise
    return temporary


@contextmanager
def locked(directory_fd: int, name: str) -> Iterator[None]:
    """Hold a lock that keeps out other processes that take it; the lock of a killed process is free again."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory_fd)
    try:
        wait_for_lock(fd, 0)
        yield
    finally:
        os.close(fd)
