"""Follow several tasks at once, a thread each. Runs in: client. Owns: the threads, and the lock of our output."""

from queue import SimpleQueue
from threading import Lock, Thread

from levity.cli.output import complain, wait_readable
from levity.client import Client
from levity.errors import LevityError
from levity.patience import Deadline

__all__ = ["follow_all"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from levity.cli.logs import Show
    from levity.logs import LogReader

    # A task, and what went wrong with its log.
    End = tuple[str, BaseException | None]

# How long a thread may take to notice that it is to end; it may be writing to a terminal that stands still.
_PATIENCE_S = 1.0


def follow_all(
    client: Client, task_ids: "Sequence[str]", wanted: "dict[str, Any]", make_show: "Callable[[], Show]"
) -> int:
    """Write the logs of all these tasks as they come, line by line; return 0, or the first failure's exit status."""
    lock = Lock()
    ends: SimpleQueue[End] = SimpleQueue()
    readers = {task_id: client._log_reader(task_id, **wanted) for task_id in task_ids}
    for reader in readers.values():
        reader.on_wait = wait_readable
    threads = [
        Thread(target=_follow, args=(task_id, reader, make_show(), lock, ends), daemon=True)
        for task_id, reader in readers.items()
    ]
    try:
        for thread in threads:
            thread.start()
        return _collect(ends, len(threads))
    finally:
        for reader in readers.values():
            reader.abort()
        deadline = Deadline(_PATIENCE_S)
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(deadline.left(), 0.0))


def _collect(ends: "SimpleQueue[End]", count: int) -> int:
    code = 0
    for _ in range(count):
        task_id, error = ends.get()
        if isinstance(error, LevityError) and error.message:
            complain(f"{task_id}: {error.message}")
            code = code or error.exit_status
        elif error is not None:
            # Whoever read our output has left, or it is a fault of our own: there is nothing to go on for.
            raise error
    return code


def _follow(task_id: str, reader: "LogReader", show: "Show", lock: Lock, ends: "SimpleQueue[End]") -> None:
    try:
        try:
            for chunk in reader.chunks():
                with lock:
                    show.take(chunk)
        finally:
            with lock:
                show.finish()
    except BaseException as error:  # noqa: BLE001 - told to the thread that waits
        ends.put((task_id, error))
    else:
        ends.put((task_id, None))
