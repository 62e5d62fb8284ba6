"""Record locks on single bytes of a file. Runs in: every supervisor process. Owns: nothing.

fcntl(2) locks, not flock(2): a forked child does not inherit them, so a lock proves that one certain process lives.
Their trap: a process loses its lock when it closes *any* descriptor of the file, so the holder opens the file once.
"""

import fcntl
import os
import struct

__all__ = ["lock_holder", "open_lock", "try_lock", "unlock", "wait_for_lock"]

# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = struct.Struct("@hhqqi4x")


def open_lock(path: str, directory_fd: int | None = None, *, create: bool = True) -> int:
    """Return the descriptor of a lock file. It is made if need be; without `create`, FileNotFoundError."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    return os.open(path, flags, 0o600, dir_fd=directory_fd)


def try_lock(fd: int, byte: int = 0) -> bool:
    """Lock one byte of the file for this process; False when another process has it."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):  # fcntl(2): EAGAIN or EACCES
        return False
    return True


def wait_for_lock(fd: int, byte: int) -> None:
    """Lock one byte of the file for this process, as soon as no other process has it."""
    fcntl.lockf(fd, fcntl.LOCK_EX, 1, byte)


def unlock(fd: int, byte: int) -> None:
    """Let go of one byte of the file."""
    fcntl.lockf(fd, fcntl.LOCK_UN, 1, byte)


def lock_holder(fd: int, byte: int = 0) -> int:
    """Return the pid of the process that has the byte locked; 0 when none has (the caller's own lock is not seen)."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind, _whence, _start, _length, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else int(pid)
