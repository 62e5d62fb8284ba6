"""`levity logs -f` of several tasks, a thread each. Runs in: client. Owns: the threads, and the lock of the output."""

from threading import Lock, Thread

from levity.cli.output import print_error, wait_readable
from levity.cli.wakeups import WakeupQueue
from levity.client import Client
from levity.errors import LevityError
from levity.transport.connection import Deadline

__all__ = ["follow_all"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from levity.cli.render.printers import Printer
    from levity.operations.logs import LogReader


# How long a thread may take to notice that it is to end: it may be writing to a terminal that stands still.
_JOIN_TIMEOUT_S = 1.0


def follow_all(
    client: Client, task_ids: "Sequence[str]", wanted: "dict[str, Any]", make_printer: "Callable[[], Printer]"
) -> int:
    """Write the logs of all these tasks as they come; return 0, or the exit status of the first failure."""
    lock = Lock()
    readers = {task_id: client.open_log(task_id, **wanted) for task_id in task_ids}
    for reader in readers.values():
        reader.on_wait = wait_readable
    with WakeupQueue() as ends:
        threads = [
            Thread(target=_follow, args=(task_id, reader, make_printer(), lock, ends), daemon=True)
            for task_id, reader in readers.items()
        ]
        try:
            for thread in threads:
                thread.start()
            return _collect(ends, len(threads))
        finally:
            for reader in readers.values():
                reader.abort()
            deadline = Deadline(_JOIN_TIMEOUT_S)
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(deadline.left(), 0.0))


class _End:
    """A log has ended: whole, or with an error."""

    def __init__(self, task_id: str, error: BaseException | None = None) -> None:
        self.task_id = task_id
        self.error = error


def _collect(ends: WakeupQueue, count: int) -> int:
    code = 0
    for _ in range(count):
        end = ends.get()
        assert isinstance(end, _End)
        if isinstance(end.error, LevityError) and end.error.message:
            print_error(f"{end.task_id}: {end.error.message}")
            code = code or end.error.exit_status
        elif end.error is not None:
            # The reader of the output has left, or levity has a fault: do not go on.
            raise end.error
    return code


def _follow(task_id: str, reader: "LogReader", printer: "Printer", lock: Lock, ends: WakeupQueue) -> None:
    try:
        try:
            for chunk in reader.chunks():
                with lock:
                    printer.take(chunk)
        finally:
            with lock:
                printer.finish()
    except BaseException as error:  # noqa: BLE001 - raised in the main thread
        ends.put(_End(task_id, error))
    else:
        ends.put(_End(task_id))
