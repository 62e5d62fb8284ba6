"""`levity run`: start a task, follow it, exit with its code. Runs in: client.

Owns: its threads, and the handlers of SIGINT, SIGTERM and SIGHUP, unless these are ignored.

The main thread only waits for events, and so is never in the middle of anything when a signal comes. A second thread
starts the task, copies the log and waits for the result; a third one sends standard input.
"""

import signal
from threading import Thread

from levity.cli.exit_codes import INTERRUPTED, SIGNALLED, as_own_failure, exit_code_of
from levity.cli.options import HELP, Option, Parsed
from levity.cli.output import ReaderGone, print_error, wait_readable
from levity.cli.render.printers import PlainPrinter
from levity.cli.start import TASK_OPTIONS, task_of
from levity.cli.wakeups import WakeupQueue
from levity.client import Client
from levity.errors import LevityError, PeerError
from levity.operations.start_params import new_task_id
from levity.operations.stdin import StdinWriter
from levity.states import State
from levity.task import TaskRecord

__all__ = ["OPTIONS", "run"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO
    from types import FrameType
    from typing import Any, Self

OPTIONS = (*TASK_OPTIONS, Option("interactive", "i"), HELP)

# How long the copying thread may take to notice that it is to end: it may be writing to a terminal that stands still.
_JOIN_TIMEOUT_S = 1.0


class _Interrupt:
    """Ctrl-C was pressed."""


class _Left:
    """A signal came that ends this command, and not the task."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Started:
    """The task runs."""


class _NotSignalled:
    """The request to end the task failed."""

    def __init__(self, error: LevityError) -> None:
        self.error = error


def run(parsed: Parsed, client: Client) -> int:
    """Run the command."""
    task = task_of(parsed)
    name = "-" if parsed.has("interactive") else parsed.last("stdin")
    if parsed.has("interactive") and parsed.has("stdin"):
        raise parsed.usage_error("--interactive and --stdin exclude each other")
    task["task_id"] = new_task_id()
    try:
        if name is None:
            return _start_and_follow(client, task, None)
        from levity.cli.stdin_file import open_stdin_file

        with open_stdin_file(name) as file:
            return _start_and_follow(client, task, file)
    except LevityError as error:
        raise as_own_failure(error) from error


def _start_and_follow(client: Client, task: "dict[str, Any]", file: "FileIO | None") -> int:
    with WakeupQueue() as events, _Attached(client, task, file, events) as attached:
        return attached.wait()


class _Attached:
    """A task that this command starts, follows and sends input to."""

    def __init__(self, client: Client, task: "dict[str, Any]", file: "FileIO | None", events: WakeupQueue) -> None:
        self._client = client
        self._task = task
        self._task_id: str = task["task_id"]
        self._file = file
        self._is_started = False
        # The threads and the signal handler put events, `wait` gets them.
        self._events = events
        self._reader = client.open_log(self._task_id, follow=True)
        self._reader.on_wait = wait_readable
        self._follower = Thread(target=self._follow, name="follower", daemon=True)
        self._stdin_writer: StdinWriter | None = None
        self._old_handlers: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"<_Attached {self._task_id}>"

    def __enter__(self) -> "Self":
        # A shell ignores SIGINT for a background job, which Ctrl-C must not reach; nohup(1) ignores SIGHUP.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._old_handlers[number] = signal.signal(number, self._caught)
        self._follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._stdin_writer:
            self._stdin_writer.stop()
        self._client.abort()
        self._reader.abort()
        self._follower.join(_JOIN_TIMEOUT_S)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)

    def wait(self) -> int:
        """Handle events until the task is over or left alone, and return the exit code."""
        interrupts = 0
        while True:
            event = self._events.get()
            if isinstance(event, TaskRecord):
                return self._ended(event)
            if isinstance(event, BaseException):
                raise self._failure(event)
            if isinstance(event, _NotSignalled):
                print_error(f"the task was not asked to end: {event.error.message}")
                continue
            if isinstance(event, _Left):
                print_error(self._how_to_go_on())
                return SIGNALLED + event.number
            if isinstance(event, _Started):
                self._begin(signal_it=interrupts > 0)
                continue
            interrupts += 1
            if interrupts > 1:
                print_error(self._how_to_go_on())
                return INTERRUPTED
            self._interrupt()

    def _begin(self, *, signal_it: bool) -> None:
        self._is_started = True
        if self._file:
            self._stdin_writer = StdinWriter(self._client, self._task_id, self._file, self._events.put)
        if signal_it:
            self._ask_to_end()

    def _interrupt(self) -> None:
        if self._is_started:
            print_error("the task is asked to end; press Ctrl-C again to leave it alone and go")
            self._ask_to_end()
        else:
            print_error("the task will be asked to end once it has started; press Ctrl-C again to go now")

    def _ask_to_end(self) -> None:
        Thread(target=self._signal, name="signaller", daemon=True).start()

    def _how_to_go_on(self) -> str:
        """Return a message that tells how to come back to the task."""
        task_id = self._task_id
        if not self._is_started:
            return f"if the task was started already, its id is {task_id}"
        ways = f"`levity logs -f {task_id}` follows it, `levity wait {task_id}` waits for its end"
        input_too = "; its input stays open" if self._stdin_writer and not self._stdin_writer.is_done else ""
        return f"task {task_id} goes on: {ways}{input_too}"

    def _ended(self, record: TaskRecord) -> int:
        if record.state is State.INTERNAL_SERVER_ERROR:
            print_error(f"task {record.id}: {record.reason}")
        return exit_code_of(record)

    def _failure(self, error: BaseException) -> BaseException:
        """Return the error that ends this command, with what becomes of the task in its message."""
        # If no levityd ever answered, or it refused the start, there is no task.
        may_run = self._is_started or (isinstance(error, PeerError) and self._client.ever_connected)
        if isinstance(error, ReaderGone):
            print_error(f"nobody reads the output any more; {self._how_to_go_on()}")
        elif isinstance(error, OSError):
            return LevityError(f"cannot read the input: {error.strerror}; {self._how_to_go_on()}")
        elif isinstance(error, LevityError) and may_run:
            error.message += f"; {self._how_to_go_on()}"
        return error

    def _caught(self, number: int, _frame: "FrameType | None") -> None:
        self._events.put(_Interrupt() if number == signal.SIGINT else _Left(number))

    def _follow(self) -> None:
        """Start the task, copy its log, and wait for the result, which may come a moment after the log's end."""
        try:
            self._client.submit(**self._task, stdin=self._file is not None)
            self._events.put(_Started())
            self._reader.ever_connected = True
            printer = PlainPrinter()
            for chunk in self._reader.chunks():
                printer.take(chunk)
            with self._client.another() as client:
                (record,) = client.wait(self._task_id)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self._events.put(error)
        else:
            self._events.put(record)

    def _signal(self) -> None:
        try:
            with self._client.another() as client:
                client.signal(self._task_id)
        except LevityError as error:
            self._events.put(_NotSignalled(error))
