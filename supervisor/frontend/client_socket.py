"""One client's socket: send with a time limit, and wait without missing its end. Runs in: front-end, a thread each.

Owns: nothing. A client has to take within a time what it is sent. A thread that waits for something else sees at once
that the client has left, and sends the client a heartbeat now and then.
"""

import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

from levity.errors import InvalidRequest
from levity.protocol.limits import HEARTBEAT_DEFAULT_S, HEARTBEAT_LEAST_S, HEARTBEAT_LIMIT_S
from levity.protocol.messages import notification_frame
from supervisor.frontend.operations.fair_semaphore import FairSemaphore
from supervisor.spool.records import JsonObject

if TYPE_CHECKING:
    from levity.tls import SSLContext, SSLSocket

__all__ = ["ClientSocket", "heartbeat_of"]

# A client that takes nothing for so long is gone for good.
_SEND_STALL_S = 300.0
# How long a thread that has a place in the semaphore waits: a client that is not stopped takes at once what it is sent.
_PATIENCE_S = 0.01
_HEARTBEAT = notification_frame("heartbeat", {})
# So much of a file is encrypted at a time.
_BLOCK = 256 * 1024
# The kernel says that the other side has closed, or closed its sending half (poll(2)).
_LEFT = select.POLLRDHUP | select.POLLHUP | select.POLLERR


def heartbeat_of(params: JsonObject) -> float:
    """Return after how many seconds of silence a client wants a heartbeat."""
    value = params.get("heartbeat_s", HEARTBEAT_DEFAULT_S)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not HEARTBEAT_LEAST_S <= value <= HEARTBEAT_LIMIT_S:
        raise InvalidRequest(f"'heartbeat_s' is not a number from {HEARTBEAT_LEAST_S:g} to {HEARTBEAT_LIMIT_S:g}")
    return float(value)


class ClientSocket:
    """Sends to one client; OSError when it is gone, or too slow. `tls` is the connection where TLS is spoken."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.tls: SSLSocket | None = None
        self._not_now: tuple[type[OSError], ...] = (BlockingIOError,)
        self._sent_at = time.monotonic()
        # Held while the object that has the descriptor changes, or is closed.
        self._lock = threading.Lock()

    def secure(self, context: "SSLContext", not_now: tuple[type[OSError], ...]) -> "SSLSocket":
        """Speak TLS from now on, which the client is to begin; `not_now` is raised where a call would wait."""
        with self._lock:
            encrypted = context.wrap_socket(self.connection, server_side=True, do_handshake_on_connect=False)
            self.connection = self.tls = encrypted
            self._not_now = not_now
        return encrypted

    def drop(self) -> None:
        """Break the connection, from any thread; its own thread, which sees that, closes it."""
        with self._lock:
            try:
                # Not the shutdown() of a TLS connection, which only its own thread may call.
                socket.socket.shutdown(self.connection, socket.SHUT_RDWR)
            except OSError:
                pass  # It is broken or closed already.

    def close(self) -> None:
        """End the stream in order, as far as that is possible at once, and close the connection."""
        with self._lock:
            try:
                self.connection.setblocking(False)
                if self.tls is not None:
                    # Sends close_notify: without it the client has to think that something is missing.
                    self.tls.unwrap()
                else:
                    self.connection.shutdown(socket.SHUT_WR)
            except (OSError, ValueError):
                pass  # The client is gone, or TLS never began, or unwrap() would wait for an answer.
            self.connection.close()

    def send(self, data: bytes | bytearray) -> None:
        """Send all of it."""
        self.connection.settimeout(_SEND_STALL_S)
        rest = memoryview(data)
        while rest:  # Not sendall(): for that the time is for all of it.
            rest = rest[self.connection.send(rest) :]
        self._sent_at = time.monotonic()

    def send_file(self, head: bytes, fd: int, position: int, length: int, semaphore: FairSemaphore) -> None:
        """Send `head`, then bytes of a file inside the kernel (sendfile(2)), with a place in the semaphore."""
        self.send(head)
        self.connection.setblocking(False)
        end = position + length
        while position < end:
            with semaphore:
                position = self._send_some(fd, position, end)
            if position < end:
                self._wait_writable(_SEND_STALL_S)
        self._sent_at = time.monotonic()

    def _send_some(self, fd: int, position: int, end: int) -> int:
        """Send until the client is too slow; return how far that was."""
        send = self._send_block if self.tls is None else self._encrypt_block
        while position < end:
            try:
                sent = send(fd, position, end)
            except self._not_now:
                if not self._wait_writable(_PATIENCE_S, must=False):
                    break
                continue
            if not sent:
                # The frame's length is announced already: only the end of the connection can tell the client.
                raise OSError("a spool file is shorter than it was")
            position += sent
        return position

    def _send_block(self, fd: int, position: int, end: int) -> int:
        return os.sendfile(self.connection.fileno(), fd, position, end - position)

    def _encrypt_block(self, fd: int, position: int, end: int) -> int:
        data = os.pread(fd, min(end - position, _BLOCK), position)
        return self.connection.send(data) if data else 0

    def is_readable(self, timeout_s: float) -> bool:
        """Whether bytes come, or the end, within that time."""
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    def _wait_writable(self, timeout_s: float, *, must: bool = True) -> bool:
        poller = select.poll()
        poller.register(self.connection, select.POLLOUT)
        is_writable = bool(poller.poll(timeout_s * 1000))
        if must and not is_writable:
            raise TimeoutError("the client takes nothing")
        return is_writable

    def beat(self, heartbeat_s: float) -> None:
        """Send a heartbeat if it is time to. ConnectionError when the client has left."""
        poller = select.poll()
        poller.register(self.connection, select.POLLRDHUP)
        if poller.poll(0):
            raise ConnectionResetError("the client has left")
        if time.monotonic() >= self._sent_at + heartbeat_s:
            self.send(_HEARTBEAT)

    def wait(self, fd: int, heartbeat_s: float, at_most_s: float | None = None) -> bool:
        """Wait until `fd` is readable; False when that takes too long. ConnectionError when the client has left."""
        give_up_at = None if at_most_s is None else time.monotonic() + at_most_s
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.register(self.connection, select.POLLRDHUP)
        while True:
            now = time.monotonic()
            until = self._sent_at + heartbeat_s
            if give_up_at is not None:
                until = min(until, give_up_at)
            ready = dict(poller.poll(max(0.0, until - now) * 1000))
            if ready.get(self.connection.fileno(), 0) & _LEFT:
                raise ConnectionResetError("the client has left")
            if fd in ready:
                return True
            if give_up_at is not None and time.monotonic() >= give_up_at:
                return False
            if time.monotonic() >= self._sent_at + heartbeat_s:
                self.send(_HEARTBEAT)
