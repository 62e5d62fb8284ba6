"""Files opened, written whole and made durable. Runs in: every supervisor process. Owns: nothing.

A name is one in the open directory `directory_fd` or, without one, in the working directory. If it is a symbolic link,
opening it fails.
"""

import os

__all__ = ["make_mark", "open_directory", "open_to_read", "put_in_place", "sync_path", "write_file"]


def open_directory(path: str, directory_fd: int | None = None) -> int:
    """Return the descriptor of a directory."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)


def open_to_read(name: str, directory_fd: int | None = None) -> int:
    """Return the descriptor of a file to be read; a FIFO in its place does not keep the caller waiting."""
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory_fd)


def make_mark(name: str, directory_fd: int, mode: int = 0o600) -> None:
    """Make an empty file, unless it is there: that it is there is what it says."""
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory_fd))


def write_file(
    name: str, directory_fd: int, data: bytes, mode: int = 0o600, *, durable: bool, is_new: bool = False
) -> None:
    """Make a file with `data` in it; OSError when the disk does not take all of it, and a part may be there then.

    `mode` is less what the umask says. A file of that name is emptied first; with `is_new` it is a FileExistsError.
    With `durable` the bytes, not yet the name, are on the disk when this returns (fsync(2)).
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_EXCL if is_new else os.O_TRUNC) | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, mode, dir_fd=directory_fd)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def put_in_place(temporary: str, name: str, directory_fd: int, *, durable: bool) -> None:
    """Give a file its name, in place of what had it; with `durable` the name is on the disk when this returns."""
    os.rename(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    if durable:
        os.fsync(directory_fd)


def sync_path(path: str, directory_fd: int | None = None) -> None:
    """Make a file's bytes, or the names in a directory, durable."""
    fd = open_to_read(path, directory_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
