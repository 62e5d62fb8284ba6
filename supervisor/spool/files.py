"""Records in a task's directory, written whole or not at all. Runs in: shim, engine, front-end. Owns: nothing."""

import json
import os
import time

from supervisor.hostos.files import open_directory, open_to_read, put_in_place, write_file
from supervisor.spool.layout import PRIVATE_MODE, task_path
from supervisor.spool.records import REQUIRED_KEYS, JsonObject, RecordVersionError

__all__ = ["insist", "is_removed", "load_record", "open_task", "write_record"]

VERSION = 1
# A record is not larger than a request may be, so a larger file is not a record.
_SIZE_LIMIT = 32 * 1024 * 1024
# A full disk stays full for a while, and a record is small: the first free block is enough for it.
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 1.0

# What json.loads does, less what guesses an encoding: each page that a shim touches is its own.
_decode = json.JSONDecoder().raw_decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Value = TypeVar("Value")


def open_task(task_id: str) -> int:
    """Return the descriptor of a task's directory; FileNotFoundError if there is none."""
    return open_directory(task_path(task_id))


def write_record(directory_fd: int, name: str, record: JsonObject, *, durable: bool, mode: int = PRIVATE_MODE) -> None:
    """Put `record` into file `name`, replacing what was there: temporary file, rename; OSError when that fails.

    `mode` is less what the umask says. With `durable`, both the bytes and the name are on the disk when this returns
    (fsync(2) of file and directory).
    """
    temporary = f"{name}.tmp"
    data = json.dumps({"version": VERSION, **record}).encode("ascii")
    write_file(temporary, directory_fd, data, mode, durable=durable)
    put_in_place(temporary, name, directory_fd, durable=durable)


def load_record(directory_fd: int, name: str) -> JsonObject | None:
    """Return the record in file `name`; None if there is none or it is no whole record.

    RecordVersionError for a record that a newer levity wrote, so that it is not misread.
    """
    try:
        fd = open_to_read(name, directory_fd)
    except FileNotFoundError:
        return None
    try:
        data = _read_whole(fd)
    finally:
        os.close(fd)
    try:
        text = data.decode("utf-8").strip()
        record, end = _decode(text)
    except (ValueError, RecursionError):
        return None
    if end < len(text):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("version"), int):
        return None
    if record["version"] > VERSION:
        raise RecordVersionError(f"{name} has version {record['version']}; this levity reads up to {VERSION}")
    return record if REQUIRED_KEYS.get(name, frozenset()) <= record.keys() else None


def _read_whole(fd: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= _SIZE_LIMIT and (part := os.read(fd, 65536)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def is_removed(directory_fd: int) -> bool:
    """Whether an open directory has been removed, so that nothing can be stored in it any more."""
    return os.fstat(directory_fd).st_nlink == 0


def insist(directory_fd: int, action: "Callable[[], Value]", sleep: "Callable[[float], None]" = time.sleep) -> "Value":
    """Repeat `action` until it succeeds, and return what it returns: for what must not fail, and may wait.

    OSError only once the directory that it works in is removed.
    """
    delay_s = _FIRST_RETRY_S
    while True:
        try:
            return action()
        except OSError:
            if is_removed(directory_fd):
                raise
            sleep(delay_s)
            delay_s = min(delay_s * 2, _LAST_RETRY_S)
