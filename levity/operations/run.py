"""Run a command to its end: send its input, follow its output, wait for its result. Runs in: client. Owns: nothing."""

from levity.errors import LevityError
from levity.operations.logs import open_log
from levity.operations.stdin import StdinWriter
from levity.operations.wait import wait
from levity.task import TaskRecord
from levity.transport.rpc import RpcClient

__all__ = ["Completed", "run"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from levity.operations.logs import LogChunk, LogReader
    from levity.operations.stdin import Source


class Completed:
    """A task that is over: its `record`, and its output as `stdout` and `stderr`, empty if `output` took the chunks."""

    __slots__ = ("record", "stderr", "stdout")

    def __init__(self, record: TaskRecord, stdout: bytes, stderr: bytes) -> None:
        self.record = record
        self.stdout = stdout
        self.stderr = stderr

    @property
    def exit_code(self) -> int | None:
        """The record's: 128+N if signal N ended the task, None if levity failed it."""
        return self.record.exit_code

    def __repr__(self) -> str:
        sizes = f"{len(self.stdout)} and {len(self.stderr)} B"
        return f"<Completed {self.record.id} {self.record.state} {self.exit_code}, {sizes}>"


def run(
    client: RpcClient, task_id: str, source: "Source | None", output: "Callable[[LogChunk], object] | None"
) -> Completed:
    """Do the rest of Client.run for a started task."""
    written: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

    def collect(chunk: "LogChunk") -> None:
        written[chunk.stream].append(chunk.data)

    reader = open_log(client, task_id, follow=True)
    stdin_writer = None if source is None else StdinWriter(client, task_id, source, lambda _: reader.abort())
    try:
        _follow(reader, stdin_writer, output or collect)
    finally:
        if stdin_writer:
            stdin_writer.stop()
    (record,) = wait(client, task_id, None, any_of=False)
    return Completed(record, b"".join(written["stdout"]), b"".join(written["stderr"]))


def _follow(reader: "LogReader", stdin_writer: StdinWriter | None, take: "Callable[[LogChunk], object]") -> None:
    try:
        for chunk in reader.chunks():
            take(chunk)
    except LevityError:
        # The writer failed, and stopped this reader so that its error is raised.
        if stdin_writer and stdin_writer.error:
            raise stdin_writer.error from None
        raise
