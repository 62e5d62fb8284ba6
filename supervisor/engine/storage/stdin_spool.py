"""Store what clients send to the standard input of tasks. Runs in: engine. Owns: nothing.

The input stays in the task's directory until the task has read it, so it survives client, connection and levityd. Each
piece names its offset in the input, so a piece that is sent again is stored once.
"""

import errno
import os
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass

from levity.errors import InvalidRequest
from levity.protocol.limits import POSITION_LIMIT, STDIN_DATA_LIMIT, STDIN_UNREAD_LIMIT
from supervisor.hostos.files import make_mark
from supervisor.spool.files import open_task
from supervisor.spool.layout import EXIT, STDIN, STDIN_CLOSED, STDIN_END, parse_segment, segment_name
from supervisor.spool.records import JsonObject

__all__ = ["Input", "parse_input", "store_input"]

# The shim makes room by removing whole segments, so they are small beside the limit.
_SEGMENT_BYTES = 256 * 1024


@dataclass(frozen=True)
class Input:
    """The parameters of a task.stdin (docs/protocol.md), checked."""

    offset: int
    data: bytes
    is_last: bool
    limit: int | None


def parse_input(params: JsonObject) -> Input:
    """Check the parameters of a task.stdin; InvalidRequest says what is wrong."""
    offset, limit = params.get("offset"), params.get("limit_bytes", STDIN_UNREAD_LIMIT)
    text, is_last = params.get("data", ""), params.get("end", False)
    if offset is None or not _is_count(offset) or not (limit is None or _is_count(limit)):
        raise InvalidRequest("'offset' or 'limit_bytes' is not a whole number from 0 on")
    if not isinstance(text, str) or not isinstance(is_last, bool):
        raise InvalidRequest("'data' is not text, or 'end' is neither true nor false")
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise InvalidRequest("'data' is not base64") from None
    if len(data) > STDIN_DATA_LIMIT:
        raise InvalidRequest(f"'data' has {len(data)} bytes; the limit is {STDIN_DATA_LIMIT}")
    return Input(offset, data, is_last, limit)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= POSITION_LIMIT


def store_input(task_id: str, piece: Input) -> JsonObject:
    """Store a piece and return the reply. Where there is no room for it now, `full` says why: "limit" or "disk".

    OSError when the disk fails in another way, or the directory is gone.
    """
    directory_fd = open_task(task_id)
    try:
        return _StdinSpool(directory_fd).add(piece) or {"full": "limit"}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return {"full": "disk"}
    finally:
        os.close(directory_fd)


class _StdinSpool:
    """The input of one task that is stored at the moment."""

    def __init__(self, directory_fd: int) -> None:
        self._directory_fd = directory_fd
        segments = (parse_segment(name) for name in os.listdir(directory_fd))
        self._bases = sorted(segment[1] for segment in segments if segment and segment[0] == STDIN)
        self._newest = self._bases[-1] if self._bases else 0
        self._size = self._stored_size() if self._bases else 0

    def _stored_size(self) -> int:
        try:
            return os.stat(self._name, dir_fd=self._directory_fd).st_size
        except FileNotFoundError:
            return 0  # The task is over and its input has been removed since; `add` looks for that next.

    @property
    def _name(self) -> str:
        return segment_name(STDIN, self._newest)

    @property
    def _end(self) -> int:
        return self._newest + self._size

    def add(self, piece: Input) -> JsonObject | None:
        """Store the part of a piece that is new, and return the reply; None if there is no room for it now."""
        if self._is_closed:
            return self._closed_reply()
        if piece.offset > self._end:
            raise InvalidRequest(f"{self._end} bytes of input are stored, so the next are not those at {piece.offset}")
        fresh = piece.data[self._end - piece.offset :]
        if fresh and self._has(STDIN_END):
            raise InvalidRequest("the input has ended already")
        unread = self._maybe_unread_bytes
        if fresh and piece.limit is not None and unread and unread + len(fresh) > piece.limit:
            return None
        self._append(fresh)
        if piece.is_last:
            make_mark(STDIN_END, self._directory_fd)
        if not self._has(STDIN):
            # The task has ended meanwhile. Its shim may have removed the input before this piece was added.
            self._discard()
            return self._closed_reply()
        return {"stored": self._end, "closed": False, "over": False}

    @property
    def _is_closed(self) -> bool:
        return self._has(EXIT) or not self._has(STDIN) or self._has(STDIN_CLOSED)

    def _closed_reply(self) -> JsonObject:
        return {"stored": self._end, "closed": True, "over": self._has(EXIT)}

    def _discard(self) -> None:
        for name in os.listdir(self._directory_fd):
            if name.startswith(f"{STDIN}."):
                try:
                    os.unlink(name, dir_fd=self._directory_fd)
                except FileNotFoundError:
                    pass  # The shim was faster.

    @property
    def _maybe_unread_bytes(self) -> int:
        """How much the task may not have read.

        Its shim removes each segment that the task has read, but for the newest. Of a newest that is alone the engine
        does not know how much was read: it counts as 0.
        """
        return self._end - self._bases[0] if len(self._bases) > 1 else 0

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if not self._bases or self._size >= _SEGMENT_BYTES:
                self._newest, self._size = self._end, 0
                self._bases.append(self._newest)
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._name, flags, 0o600, dir_fd=self._directory_fd)
            try:
                done = os.pwrite(fd, rest, self._size)
            finally:
                os.close(fd)
            self._size += done
            rest = rest[done:]

    def _has(self, name: str) -> bool:
        return os.access(name, os.F_OK, dir_fd=self._directory_fd)
