"""Users of one levityd, real ones of the host among them, who ask for bytes and get bytes. Owns: their connections."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from tests.support.other_user import as_other_user

__all__ = ["Asker", "LocalUser", "WireUser", "read_reply", "socket_place"]

# Asks in turn for each of these, on one connection, `times` times over; returns (the last replies, all times taken).
Answers = tuple[list[bytes], list[list[float]]]


class Asker(Protocol):
    """A client that is let in."""

    def ask(self, frames: Sequence[bytes], times: int = 1) -> Answers:
        """Send each frame and wait for its reply, `times` times. Return the last replies and how long each took."""


class WireUser:
    """A client over a connection of this process."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def ask(self, frames: Sequence[bytes], times: int = 1) -> Answers:
        replies: list[bytes] = []
        took: list[list[float]] = [[] for _ in frames]
        for _round in range(times):
            replies.clear()
            for frame, durations in zip(frames, took, strict=True):
                began = time.perf_counter()
                self.sock.sendall(frame)
                replies.append(read_reply(self.sock))
                durations.append(time.perf_counter() - began)
        return replies, took


def read_reply(sock: socket.socket) -> bytes:
    """Return the body of the next message that is a reply."""
    while True:
        head = _exactly(sock, 5)
        body = _exactly(sock, int.from_bytes(head[:4], "big") - 1)
        if head[4] == 0 and b'"id":' in body[:40]:
            return body


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise ConnectionResetError("hung up")
        data += more
    return data


_CODE = """
import time
def exactly(length):
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data
def reply():
    while True:
        head = exactly(5)
        body = exactly(int.from_bytes(head[:4], "big") - 1)
        if head[4] == 0 and b'"id":' in body[:40]:
            return body
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(20)
sock.connect({path!r})
replies, took = [], [[] for _ in {frames!r}]
exactly(int.from_bytes(exactly(4), "big"))
for _ in range({times}):
    replies.clear()
    for frame, durations in zip({frames!r}, took):
        began = time.perf_counter()
        sock.sendall(frame)
        replies.append(reply().decode())
        durations.append(time.perf_counter() - began)
result = [replies, took]
"""


class LocalUser:
    """A user of this host, known to root's levityd by a process that really runs as that user."""

    def __init__(self, path: str, uid: int) -> None:
        self.uid = uid
        self._path = path

    def ask(self, frames: Sequence[bytes], times: int = 1) -> Answers:
        code = _CODE.format(path=self._path, frames=list(frames), times=times)
        replies, took = as_other_user(code, uid=self.uid, gid=self.uid)
        return [reply.encode() for reply in replies], took


@contextmanager
def socket_place() -> Iterator[str]:
    """Make a directory that every user can look into, for a socket."""
    place = tempfile.mkdtemp(prefix="levity-common-")
    os.chmod(place, 0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)
