"""task.logs: send a task's output to a client, and follow it. Runs in: front-end, a thread each.

Owns: the spool files of one reading. A client that is slow or stopped keeps its own thread waiting and no other.
"""

import os
import time
from collections.abc import Callable, Iterable

from levity.errors import HostError
from levity.protocol.frames import CHUNK_LIMIT, chunk_head
from levity.protocol.messages import notification_frame
from supervisor.frontend.client_socket import ClientSocket
from supervisor.frontend.operations.active_senders import ActiveSenders
from supervisor.frontend.operations.fair_semaphore import FairSemaphore
from supervisor.frontend.operations.log_params import LogParams
from supervisor.hostos.inotify import Inotify, Watch, descriptor_path
from supervisor.spool.layout import STREAMS
from supervisor.spool.reader import Extent, Hole, Piece, SpoolReader, Unordered
from supervisor.spool.records import JsonObject, RecordVersionError
from supervisor.spool.tail import tail_start

__all__ = ["Logs"]

# Smaller pieces are put together: a call for each would cost more than the bytes.
_SMALL = 16 * 1024
_BUFFER = 256 * 1024
# How often to look where inotify does not work.
_POLL_S = 0.05
# A follower's thread rests after it has sent something, so that it does not send the single lines of a task that writes
# all the time. It rests the longer the more of them send, so that together they leave most of a processor to others.
_REST_S = 0.0005
_LONGEST_REST_S = 0.1
# A client that may not see this task any more is cut off after so long, or at its next heartbeat.
_CHECK_S = 10.0


class Logs:
    """The logs of all tasks; `send` from any thread."""

    def __init__(self, inotify: Inotify) -> None:
        self._inotify = inotify
        self._semaphore = FairSemaphore()
        self._senders = ActiveSenders()

    def __repr__(self) -> str:
        return f"<Logs {self._senders}>"

    def send(
        self, client: ClientSocket, task_id: str, directory_fd: int, params: LogParams, check: Callable[[], None]
    ) -> JsonObject:
        """Send the output that is asked for and return the result; OSError when the client is gone.

        `directory_fd` is closed here. `check` is called now and then meanwhile, and may raise to end it.
        """
        checked = _Checked(client, params.heartbeat_s, check)
        try:
            reader = SpoolReader(directory_fd, params.streams, exact=params.exact)
        except FileNotFoundError:
            raise _gone(task_id) from None
        except RecordVersionError as error:
            raise HostError(f"task {task_id} was run by a newer levity: {error}") from None
        try:
            _begin(reader, params, lambda: client.beat(params.heartbeat_s))
            start = {name: reader.ends[number] for number, name in STREAMS.items()}
            client.send(notification_frame("log.start", {"id": task_id, **start}))
            if params.follow:
                self._follow(checked, reader, params, descriptor_path(directory_fd))
            else:
                self._send_pieces(checked, reader.pieces(CHUNK_LIMIT, params.until_ns))
            # A reading that began behind the end tells the real end: the client has to see that something is gone.
            is_all = reader.over and not reader.has_later(params.until_ns)
            ends = reader.totals() if is_all else reader.ends
            return {**{name: ends[number] for number, name in STREAMS.items()}, "over": reader.over}
        finally:
            reader.close()

    def _follow(self, checked: "_Checked", reader: SpoolReader, params: LogParams, path: str) -> None:
        with self._inotify.watch(path) as watch:
            while self._step(checked, reader, params, watch):
                checked.check()

    def _step(self, checked: "_Checked", reader: SpoolReader, params: LogParams, watch: Watch) -> bool:
        """Send the output that has come and wait for more; False when there will be none."""
        is_armed = watch.arm()
        now_ns = time.time_ns()
        try:
            reader.refresh()
        except FileNotFoundError:
            raise OSError("the task's directory was removed") from None
        has_sent = self._send_pieces(checked, reader.pieces(CHUNK_LIMIT, params.until_ns))
        if reader.over or (params.until_ns is not None and now_ns > params.until_ns):
            return False
        if has_sent:
            time.sleep(min(_REST_S * self._senders.count(time.monotonic()), _LONGEST_REST_S))
        # inotify may not tell that the directory is gone: the reader holds it open.
        wait_s = params.heartbeat_s if is_armed else _POLL_S
        if params.until_ns is not None:
            wait_s = min(wait_s, (params.until_ns - now_ns) / 1e9 + 0.001)
        if checked.client.wait(watch.fd, params.heartbeat_s, wait_s):
            watch.clear()
        return True

    def _send_pieces(self, checked: "_Checked", pieces: Iterable[Piece]) -> bool:
        """Send pieces as frames; whether there were any."""
        client = checked.client
        buffer = bytearray()
        has_sent = False

        def flush() -> None:
            if buffer:
                client.send(buffer)
                buffer.clear()

        for piece in pieces:
            checked.check()
            if piece is None:
                flush()
                client.beat(checked.heartbeat_s)
                continue
            has_sent = True
            if isinstance(piece, Extent) and piece.length > _SMALL:
                flush()
                client.send_file(_head(piece), piece.fd, piece.position, piece.length, self._semaphore)
                continue
            buffer += _frame(piece)
            if len(buffer) >= _BUFFER:
                flush()
        flush()
        return has_sent


class _Checked:
    """A client that is sent output: `check` makes sure now and then that the client may still have it."""

    def __init__(self, client: ClientSocket, heartbeat_s: float, check: Callable[[], None]) -> None:
        self.client = client
        self.heartbeat_s = heartbeat_s
        self._check = check
        self._check_at = time.monotonic() + _CHECK_S

    def check(self) -> None:
        """Make sure, if the last time is long ago; raises the error that ends the reading."""
        if time.monotonic() >= self._check_at:
            self._check()
            self._check_at = time.monotonic() + _CHECK_S


def _gone(task_id: str) -> HostError:
    return HostError(f"the output of task {task_id} is not stored any more")


def _begin(reader: SpoolReader, params: LogParams, rest: Callable[[], None]) -> None:
    if params.start is not None:
        reader.begin_at(params.start)
        return
    if params.since_ns is not None:
        reader.begin_since(params.since_ns)
    if params.tail is not None:
        totals = reader.totals(params.until_ns)
        reader.begin_at(tail_start(reader, totals, params.tail, dict(reader.ends), rest))


def _head(extent: Extent) -> bytes:
    return chunk_head(extent.stream, extent.time_ns, extent.length)


def _frame(piece: Extent | Hole | Unordered) -> bytes:
    if isinstance(piece, Extent):
        data = os.pread(piece.fd, piece.length, piece.position)
        if len(data) != piece.length:
            raise OSError("a spool file is shorter than it was")
        return _head(piece) + data
    if isinstance(piece, Hole):
        hole = {"stream": STREAMS[piece.stream], "bytes": piece.length, "lost": piece.is_lost}
        return notification_frame("log.dropped", hole)
    return notification_frame("log.unordered", {"stdout": piece.stdout, "stderr": piece.stderr})
