"""What tests do with tasks of a real levityd. Owns: nothing."""

import os
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from levity import Client, LogChunk
from levity.errors import ServerUnreachable
from levity.task import TaskRecord
from tests.support.daemon import token_file_of
from tests.support.deadline import eventually

__all__ = ["alive", "client_of", "ended", "output", "pid_at", "running_in", "send", "sh", "texts"]

# Programs that run until they are told to quit.
END_TIMEOUT_S = 30.0


def client_of(address: str | None, timeout_s: float = 30.0) -> Client:
    """Return a client of the levityd that listens at `address` (that of a started Daemon)."""
    assert address is not None
    return Client(address, timeout_s, token_file=token_file_of(address))


def send(client: Client, task_id: str, data: bytes, offset: int = 0, **more: object) -> dict[str, Any]:
    """Send one piece of input, to be stored at `offset`; return what levityd says of it."""
    return client.call("task.stdin", {"id": task_id, "offset": offset, "data": b64encode(data).decode(), **more})


def texts(chunks: Iterable[LogChunk]) -> list[bytes]:
    """Return the bytes of a log's chunks."""
    return [chunk.data for chunk in chunks]


def pid_at(address: str) -> int | None:
    """Return the pid of the levityd that listens there; None if none does yet."""
    try:
        with client_of(address) as client:
            return int(client.info()["pid"])
    except ServerUnreachable:
        return None


def sh(client: Client, script: str, **options: object) -> str:
    """Start a shell script and return its task's id; `options` as Client.start takes them."""
    return client.start(["/bin/sh", "-c", script], **options)  # type: ignore[arg-type]


def ended(client: Client, task_id: str, timeout_s: float = END_TIMEOUT_S) -> TaskRecord:
    """Wait until a task is over and return its record."""

    def look() -> TaskRecord:
        record = client.query(task_id)
        assert record.state.is_end, f"{record.id} is {record.state}"
        return record

    return eventually(look, f"the end of task {task_id}", timeout_s)


def output(client: Client, task_id: str) -> tuple[bytes, bytes]:
    """Return all that a task has written so far to stdout and stderr."""
    found: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    for stream, _, data in client.logs(task_id):
        found[stream].append(data)
    return b"".join(found["stdout"]), b"".join(found["stderr"])


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def running_in(directory: Path, name: str) -> int:
    """Return the pid that a task's process has written into a file, once it has."""
    path = os.path.join(directory, name)

    def read() -> int:
        with open(path) as file:
            text = file.read()
        assert text.endswith("\n"), f"{path} is not written yet"
        return int(text)

    return eventually(read, f"a pid in {path}")
