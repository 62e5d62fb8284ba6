"""task.stdin: send a task its standard input. Runs in: client. Owns: nothing, or a thread with a client.

A chunk goes with its position in the input, so sending it again after a break does no harm. Only one is under way: the
reply says how much is stored, and whether the task still reads.
"""

from binascii import b2a_base64

from levity.errors import ConnectionLost, InvalidRequest, ProtocolError
from levity.operations.log_params import heartbeat_s
from levity.protocol.limits import STDIN_UNREAD_LIMIT
from levity.transport.rpc import RpcClient

__all__ = ["Source", "StdinWriter", "write_stdin"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    JsonObject = dict[str, Any]

    class Readable(Protocol):
        """A binary file object; its `read1` is used if it has one."""

        def read(self, size: int, /) -> bytes | None: ...

    Source = bytes | bytearray | memoryview | Readable
else:
    Source = object

# A quarter of STDIN_DATA_LIMIT: little is sent again after a break.
CHUNK_BYTES = 256 * 1024
# How long a thread may take to notice that it is to end: it may be connecting.
JOIN_TIMEOUT_S = 1.0


def write_stdin(client: RpcClient, task_id: str, source: "Source", limit_bytes: int | None) -> int:
    """Send all of `source`, then its end; return how many bytes levityd took.

    Returns early if the task reads no more. `limit_bytes` is how much may be stored unread, None for any number.
    """
    if not isinstance(task_id, str) or not task_id:
        raise InvalidRequest(f"{task_id!r} is no task id: it is what `start` returned, or the beginning of that")
    return _write_all(client, task_id, chunks(source), limit_bytes)


def _write_all(client: RpcClient, task_id: str, pieces: "Iterator[bytes]", limit_bytes: int | None) -> int:
    offset = 0
    for chunk in pieces:
        left = chunk
        # An empty chunk is the last one.
        while left or not chunk:
            taken, wanted = _send(client, task_id, offset, left, limit_bytes)
            offset += taken
            if not wanted or not chunk:
                return offset
            left = left[taken:]
    raise AssertionError("there is always a last chunk")


def _send(client: RpcClient, task_id: str, offset: int, data: bytes, limit_bytes: int | None) -> tuple[int, bool]:
    """Send a chunk; return how many bytes of it were taken, and whether more is wanted."""
    reply = client.call(
        "task.stdin",
        {
            "id": task_id,
            "offset": offset,
            "data": b2a_base64(data, newline=False).decode("ascii"),
            "end": not data,
            "limit_bytes": limit_bytes,
            "heartbeat_s": heartbeat_s(client.timeout_s),
        },
    )
    stored = reply.get("stored")
    if isinstance(stored, bool) or not isinstance(stored, int):
        raise ProtocolError("levityd did not say how much of a task's input it has")
    # More than was sent: this chunk was sent before.
    taken = max(min(stored - offset, len(data)), 0)
    wanted = reply.get("closed") is not True and reply.get("over") is not True
    if wanted and data and not taken:
        raise ProtocolError(f"levityd has {stored} bytes of a task's input, and took none of those from {offset} on")
    return taken, wanted


def chunks(source: "Source") -> "Iterator[bytes]":
    """Yield the bytes of `source` as they come, then an empty chunk."""
    if isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source).cast("B")
        for start in range(0, len(view), CHUNK_BYTES):
            yield bytes(view[start : start + CHUNK_BYTES])
        yield b""
        return
    # read() waits for as many bytes as it was asked for, and would hold back a line that is typed.
    read = getattr(source, "read1", None) or getattr(source, "read", None)
    if read is None:
        raise InvalidRequest(f"the input is to be bytes or a binary file object, not {type(source).__name__}")
    while True:
        chunk = read(CHUNK_BYTES)
        if chunk is None:
            _wait_readable(source)
            continue
        if not isinstance(chunk, bytes):
            raise InvalidRequest("the input is to be bytes: open the file in binary mode")
        yield chunk
        if not chunk:
            return


def _wait_readable(source: "Any") -> None:
    """Wait for input on a descriptor that another process made non-blocking."""
    import select

    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.poll()


class StdinWriter:
    """Sends a task its input in a thread, over its own connection.

    `is_done`: levityd has all of the input, or the task wants no more. A failure is kept as `error`, then `failed` is
    called with it in that thread.
    """

    def __init__(
        self, client: RpcClient, task_id: str, source: "Source", failed: "Callable[[BaseException], object]"
    ) -> None:
        from threading import Thread

        self.error: BaseException | None = None
        self.is_done = False
        self._client = client.another()
        self._task_id = task_id
        self._source = source
        self._failed = failed
        self._stopped = self._in_source = False
        # A daemon thread: a read from a terminal cannot be cancelled.
        self._thread = Thread(target=self._run, name=f"stdin of {task_id}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<StdinWriter {self._task_id} {'stopped' if self._stopped else self.error or 'sending'}>"

    def stop(self) -> None:
        """Make the thread end, and wait for that unless it is reading the source."""
        self._stopped = True
        self._client.abort()
        # The thread looks at `_stopped` after it sets `_in_source` and before it reads: so it begins no read any more.
        if not self._in_source:
            self._thread.join(JOIN_TIMEOUT_S)

    def _watched(self) -> "Iterator[bytes]":
        """Yield the source's chunks; `_in_source` is set while a read may take for ever."""
        source = chunks(self._source)
        while True:
            self._in_source = True
            try:
                if self._stopped:
                    raise ConnectionLost("it was told to stop")
                chunk = next(source)
            finally:
                self._in_source = False
            yield chunk
            if not chunk:
                return

    def _run(self) -> None:
        try:
            with self._client:
                _write_all(self._client, self._task_id, self._watched(), STDIN_UNREAD_LIMIT)
                self.is_done = True
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for the task
            if not self._stopped:
                self.error = error
                self._failed(error)
