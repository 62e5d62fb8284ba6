"""task.logs: a task's output, every byte once, also over breaks. Runs in: client. Owns: one connection at a time.

The server tells the position at which each stream begins; output and dropped bytes move it. After a break the reader
asks for the log from its positions on, so it does not matter how the bytes are cut into frames.
"""

from levity.errors import ConnectionLost, IncompleteLog, InvalidRequest, ProtocolError, ServerUnreachable, Unavailable
from levity.operations.log_params import STREAMS, log_params
from levity.protocol.frames import JSON, STDERR, STDOUT, Frame
from levity.protocol.log_decoder import LogDecoder
from levity.protocol.messages import Reply, Request, parse_answer, request_frame
from levity.timestamps import NS
from levity.transport.connection import HEARTBEAT, SYSTEM_CLOCK, Clock, Connection, Deadline, check_reply
from levity.transport.rpc import Retry, RpcClient, connect

__all__ = ["LogChunk", "LogReader", "open_log"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from levity.addresses import Address
    from levity.transport.credentials import Credentials

    JsonObject = dict[str, Any]

NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_REQUEST = 1


class LogChunk:
    """A piece of a task's output, or a note about it. Iterating it gives `stream, time_ns, data`.

    * `task_id`: the full id; `stream`: "stdout" or "stderr"
    * `data`: bytes; empty in a note
    * `time_ns`: when levityd received the first byte, in nanoseconds since the epoch; 0 if unknown, and in a note
    * `dropped`: in a note, how many bytes of the stream are missing here; else 0
    * `is_lost`: the missing bytes were not removed to keep within limits: the log is damaged
    * `unordered`: in a note, how many of the stream's next bytes have no known order and time; else 0
    * `cursor`: the place in the log after this chunk: `Client.logs(task_id, cursor=cursor)` goes on there
    """

    __slots__ = ("_positions", "data", "dropped", "is_lost", "stream", "task_id", "time_ns", "unordered")

    def __init__(
        self,
        task_id: str,
        stream: str,
        time_ns: int,
        data: bytes,
        positions: tuple[int, int],
        dropped: int = 0,
        unordered: int = 0,
        is_lost: bool = False,
    ) -> None:
        self.task_id = task_id
        self.stream = stream
        self.time_ns = time_ns
        self.data = data
        self.dropped = dropped
        self.unordered = unordered
        self.is_lost = is_lost
        self._positions = positions

    @property
    def cursor(self) -> str:
        """The place in the log after this chunk."""
        stdout, stderr = self._positions
        return f"{self.task_id}/{stdout}/{stderr}"

    def __iter__(self) -> "Iterator[Any]":
        return iter((self.stream, self.time_ns, self.data))

    def __repr__(self) -> str:
        note = f", {self.dropped} B dropped" if self.dropped else f", {self.unordered} B unordered"
        return f"<LogChunk {self.stream} {len(self.data)} B{note if self.dropped or self.unordered else ''}>"


class LogReader:
    """Reads one task's log once; `timeout_s` bounds the silence of the server, not the whole time.

    `params` are those of task.logs. `on_wait(fd, timeout_s)`, if set, is called before each wait for more; it may wait
    until `fd` is readable, or raise. `ever_connected`: a levityd answered there once, so it is
    waited for if it does not now. Only `abort` is for other threads.
    """

    def __init__(
        self,
        address: "Address",
        timeout_s: float,
        params: "JsonObject",
        credentials: "Credentials | None" = None,
        *,
        ever_connected: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._params = params
        self.ever_connected = ever_connected
        self._clock = clock
        self.on_wait: Callable[[int, float], object] | None = None
        self._asked_at: float | None = None
        self._selected = params.get("streams") or STREAMS
        self._task_id: str = params["id"]
        # The position in each stream, and the first one: not known before the server tells it.
        self._positions: dict[str, int] | None = dict(params["from"]) if "from" in params else None
        self._begin = dict(self._positions or {})
        # Up to which position a note has told that order and times are not known.
        self._unordered_to = dict.fromkeys(STREAMS, 0)
        self._lost = dict.fromkeys(STREAMS, 0)
        # Of the present connection: whether the server told where the log begins, and whether anything new came.
        self._started = self._got_on = False
        self._connection: Connection | None = None
        self._aborted = False

    def __repr__(self) -> str:
        return f"<LogReader {self._task_id} at {self._address}: {self._positions}>"

    def abort(self) -> None:
        """Make the reading thread fail with ConnectionLost; for other threads."""
        self._aborted = True
        if connection := self._connection:
            connection.abort()

    def chunks(self) -> "Iterator[LogChunk]":
        """Yield the log to its end, and check that nothing is missing."""
        retry = Retry(self._timeout_s, self.ever_connected, self._clock)
        while True:
            self._started = self._got_on = False
            try:
                yield from self._read(retry)
                return
            except (ServerUnreachable, Unavailable) as error:
                if self._aborted:
                    raise
                # No new time for a server that breaks at the same byte every time.
                if self._got_on:
                    retry.renew(self._timeout_s)
                retry.wait(error)

    def _read(self, retry: Retry) -> "Iterator[LogChunk]":
        """Ask once for the log from its present position on, and yield what comes."""
        connection = self._connection = connect(self._address, retry.deadline, self._credentials)
        retry.ever_connected = True
        try:
            if self._aborted:
                raise ConnectionLost("it was told to stop")
            connection.send(request_frame(_REQUEST, "task.logs", self._request()), retry.deadline)
            decoder = LogDecoder()
            received = connection.take_rest()
            while True:
                for frame in decoder.feed(received):
                    if frame.kind != JSON:
                        yield self._output(frame)
                        continue
                    message = parse_answer(frame.body)
                    if isinstance(message, Reply):
                        self._check_end(message)
                        return
                    yield from self._noted(message)
                deadline = Deadline(self._timeout_s, self._clock)
                if self.on_wait and not connection.has_pending():
                    self.on_wait(connection.fileno(), self._timeout_s)
                received = connection.receive_bytes(deadline)
        finally:
            self._connection = None
            connection.close()

    def _request(self) -> "JsonObject":
        params = self._params | {"id": self._task_id}
        if self._positions is not None:
            params["from"] = dict(self._positions)
            for name in ("tail", "since_ns", "since_ago_ns"):
                params.pop(name, None)
        # "So long ago" is counted from the first request.
        now = self._clock.now()
        if self._asked_at is None:
            self._asked_at = now
        for name in ("since_ago_ns", "until_ago_ns"):
            if name in params:
                params[name] += int((now - self._asked_at) * NS)
        return params

    def _output(self, frame: Frame) -> LogChunk:
        stream = NAMES[frame.kind]
        self._move(stream, len(frame.body))
        return self._chunk(stream, frame.time_ns, frame.body)

    def _noted(self, message: Request) -> "Iterator[LogChunk]":
        """Take a notification; unknown ones, of a newer levityd, are skipped."""
        if message.method == HEARTBEAT:
            self._got_on = True
        elif message.method == "log.start":
            self._start(message.params)
        elif message.method == "log.dropped":
            stream, count = message.params.get("stream"), _count(message.params, "bytes")
            if stream not in STREAMS:
                raise ProtocolError("levityd did not say of which stream bytes were dropped")
            self._move(stream, count)
            is_lost = message.params.get("lost") is True
            if is_lost:
                self._lost[stream] += count
            yield self._chunk(stream, 0, b"", dropped=count, is_lost=is_lost)
        elif message.method == "log.unordered":
            for stream in STREAMS:
                if count := self._newly_unordered(stream, _count(message.params, stream)):
                    yield self._chunk(stream, 0, b"", unordered=count)

    def _start(self, params: "JsonObject") -> None:
        """Note where the server begins; after a break that must be the present position."""
        begin = {stream: _count(params, stream) for stream in STREAMS}
        task_id = params.get("id")
        if not isinstance(task_id, str) or self._started:
            raise ProtocolError("levityd did not say of which task the log is, or said twice where it begins")
        self._started = True
        self._task_id = task_id
        if self._positions is None:
            self._positions, self._begin = begin, dict(begin)
            return
        for stream in self._selected:
            if begin[stream] != self._positions[stream]:
                raise IncompleteLog(
                    f"the log cannot go on at byte {self._positions[stream]} of {stream}: levityd has it at"
                    f" {begin[stream]}"
                )

    def _newly_unordered(self, stream: str, count: int) -> int:
        """Return how many of these unordered bytes were not told of before a break."""
        position = self._position(stream)
        known = max(self._unordered_to[stream], position)
        self._unordered_to[stream] = max(known, position + count)
        return max(position + count - known, 0)

    def _move(self, stream: str, count: int) -> None:
        position = self._position(stream)
        assert self._positions is not None
        self._positions[stream] = position + count
        self._got_on = True

    def _position(self, stream: str) -> int:
        if not self._started or self._positions is None:
            raise ProtocolError("levityd did not say where the log begins")
        return self._positions[stream]

    def _chunk(
        self, stream: str, time_ns: int, data: bytes, dropped: int = 0, unordered: int = 0, is_lost: bool = False
    ) -> LogChunk:
        assert self._positions is not None
        positions = self._positions["stdout"], self._positions["stderr"]
        return LogChunk(self._task_id, stream, time_ns, data, positions, dropped, unordered, is_lost)

    def _check_end(self, reply: Reply) -> None:
        if (error := check_reply(reply, _REQUEST).error) is not None:
            raise error
        for stream in self._selected:
            end, position, begin = _count(reply.result, stream), self._position(stream), self._begin[stream]
            if position != end:
                raise IncompleteLog(
                    f"the log is incomplete: {position - begin} of {end - begin} bytes of {stream} came"
                )
        for stream, count in self._lost.items():
            if count:
                raise IncompleteLog(f"the log is damaged: bytes of {stream} that are lost: {count}")


def _count(values: "JsonObject", name: str) -> int:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ProtocolError(f"levityd sent {value!r} where it was to say how many bytes {name} has")
    return value


def open_log(client: RpcClient, task_id: str, **wanted: "Any") -> LogReader:
    """Return a reader of a task's log, with its own connection; `wanted` are options of log_params."""
    if not isinstance(task_id, str) or not task_id:
        raise InvalidRequest(f"{task_id!r} is no task id: it is what `start` returned, or the beginning of that")
    params = log_params(task_id, client.timeout_s, **wanted)
    return LogReader(
        client.address,
        client.timeout_s,
        params,
        client.credentials,
        ever_connected=client.ever_connected,
        clock=client.clock,
    )
