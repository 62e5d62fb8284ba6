"""Send a task's output to a client, and what comes of it from then on. Runs in: front-end, a thread each.

Owns: the spool files of one reading. A client that is slow or stopped keeps its own thread waiting and nobody else.
"""

import os
import time
from collections.abc import Callable, Iterable

from levity.errors import HostError
from levity.protocol.frames import CHUNK_LIMIT, chunk_head
from levity.protocol.messages import notification_frame
from supervisor.frontend.client_socket import Wire
from supervisor.frontend.operations.active_senders import Busy
from supervisor.frontend.operations.fair_semaphore import Turns
from supervisor.frontend.operations.log_params import LogRequest
from supervisor.hostos.inotify import Inotify, Watch, descriptor_path
from supervisor.spool.layout import STREAMS
from supervisor.spool.reader import Extent, Hole, Piece, SpoolReader, Unordered
from supervisor.spool.records import JsonObject, RecordVersionError
from supervisor.spool.tail import tail_start

__all__ = ["Logs"]

# Smaller pieces are put together: a call for each would cost more than the bytes.
_SMALL = 16 * 1024
_BUFFER = 256 * 1024
# How often to look where changes cannot be told.
_POLL_S = 0.05
# After a follower was sent something it rests, so that a task that writes all the time does not have it sent single
# lines. The more followers are sent something the longer, so that all of them leave most of a processor to others.
_REST_S = 0.0005
_LONGEST_REST_S = 0.1
# Somebody who is not to see this task any more has seen enough after so long, or his next heartbeat.
_CHECK_S = 10.0


class Logs:
    """The logs of all tasks; `send` from any thread."""

    def __init__(self, changes: Inotify) -> None:
        self._changes = changes
        self._turns = Turns()
        self._busy = Busy()

    def __repr__(self) -> str:
        return f"<Logs {self._busy}>"

    def send(
        self, wire: Wire, task_id: str, directory_fd: int, request: LogRequest, check: Callable[[], None]
    ) -> JsonObject:
        """Send what is asked for and return the reply; OSError when the client is gone.

        `directory_fd` is closed here. `check` is called now and then meanwhile, and may raise to end it.
        """
        checked = _Checked(wire, request.heartbeat_s, check)
        try:
            reader = SpoolReader(directory_fd, request.streams, exact=request.exact)
        except FileNotFoundError:
            raise _gone(task_id) from None
        except RecordVersionError as error:
            raise HostError(f"task {task_id} was run by a newer levity: {error}") from None
        try:
            _begin(reader, request, lambda: wire.beat(request.heartbeat_s))
            start = {name: reader.ends[number] for number, name in STREAMS.items()}
            wire.send(notification_frame("log.start", {"id": task_id, **start}))
            if request.follow:
                self._follow(checked, reader, request, descriptor_path(directory_fd))
            else:
                self._send_pieces(checked, reader.pieces(CHUNK_LIMIT, request.until_ns))
            # Where a reading began behind the end, something is gone that was there before: the client shall see it.
            is_all = reader.over and not reader.has_later(request.until_ns)
            ends = reader.totals() if is_all else reader.ends
            return {**{name: ends[number] for number, name in STREAMS.items()}, "over": reader.over}
        finally:
            reader.close()

    def _follow(self, checked: "_Checked", reader: SpoolReader, request: LogRequest, path: str) -> None:
        with self._changes.watch(path) as watch:
            while self._step(checked, reader, request, watch):
                checked.check()

    def _step(self, checked: "_Checked", reader: SpoolReader, request: LogRequest, watch: Watch) -> bool:
        """Send what has come and wait for more; False when there will be none."""
        is_armed = watch.arm()
        now_ns = time.time_ns()
        try:
            reader.refresh()
        except FileNotFoundError:
            raise OSError("the task's directory was removed") from None
        has_sent = self._send_pieces(checked, reader.pieces(CHUNK_LIMIT, request.until_ns))
        if reader.over or (request.until_ns is not None and now_ns > request.until_ns):
            return False
        if has_sent:
            time.sleep(min(_REST_S * self._busy.count(time.monotonic()), _LONGEST_REST_S))
        # Even where all changes are told, that the directory is gone may not be: the reader holds it open.
        wait_s = request.heartbeat_s if is_armed else _POLL_S
        if request.until_ns is not None:
            wait_s = min(wait_s, (request.until_ns - now_ns) / 1e9 + 0.001)
        if checked.wire.wait(watch.fd, request.heartbeat_s, wait_s):
            watch.clear()
        return True

    def _send_pieces(self, checked: "_Checked", pieces: Iterable[Piece]) -> bool:
        """Send pieces as frames; whether there were any."""
        wire = checked.wire
        buffer = bytearray()
        has_sent = False

        def flush() -> None:
            if buffer:
                wire.send(buffer)
                buffer.clear()

        for piece in pieces:
            checked.check()
            if piece is None:
                flush()
                wire.beat(checked.heartbeat_s)
                continue
            has_sent = True
            if isinstance(piece, Extent) and piece.length > _SMALL:
                flush()
                wire.send_file(_head(piece), piece.fd, piece.position, piece.length, self._turns)
                continue
            buffer += _frame(piece)
            if len(buffer) >= _BUFFER:
                flush()
        flush()
        return has_sent


class _Checked:
    """One client that is sent output: `check` sees now and then that it may still have it."""

    def __init__(self, wire: Wire, heartbeat_s: float, check: Callable[[], None]) -> None:
        self.wire = wire
        self.heartbeat_s = heartbeat_s
        self._check = check
        self._check_at = time.monotonic() + _CHECK_S

    def check(self) -> None:
        """Have it looked at, if that was long ago; raises what ends the reading."""
        if time.monotonic() >= self._check_at:
            self._check()
            self._check_at = time.monotonic() + _CHECK_S


def _gone(task_id: str) -> HostError:
    return HostError(f"the output of task {task_id} is not stored any more")


def _begin(reader: SpoolReader, request: LogRequest, rest: Callable[[], None]) -> None:
    if request.start is not None:
        reader.begin_at(request.start)
        return
    if request.since_ns is not None:
        reader.begin_since(request.since_ns)
    if request.tail is not None:
        totals = reader.totals(request.until_ns)
        reader.begin_at(tail_start(reader, totals, request.tail, dict(reader.ends), rest))


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
