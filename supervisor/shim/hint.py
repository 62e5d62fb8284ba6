"""Tell the engine to look at a task. Runs in: shim. Owns: nothing: the socket is one for all shims.

A hint says only "look at this id": the engine reads the task's directory, so a lost hint costs time, never truth. The
socket's path is relative to the working directory, which is the state directory: so the path has no length limit, and
stays right when the state directory is moved.
"""

import socket

from supervisor.spool.layout import ENGINE_SOCKET

__all__ = ["Hint", "hint_socket", "try_hint"]

# The engine's queue holds few datagrams (net.unix.max_dgram_qlen, 10 by default).
_FIRST_RETRY_S = 0.002
_LAST_RETRY_S = 1.0


def hint_socket() -> socket.socket:
    """Return the socket that hints are sent from: unbound and unconnected, made by the zygote for all its shims."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    return sender


def try_hint(sender: socket.socket, task_id: str) -> bool:
    """Send the hint of a task; False when the engine's queue is full."""
    try:
        sender.sendto(task_id.encode(), ENGINE_SOCKET)
    except BlockingIOError:
        return False
    except OSError:
        pass  # No engine: the next one looks at every task when it starts.
    return True


class Hint:
    """The hint of one task; `retry_at` is when to call `send` again, None when it is delivered or no engine listens."""

    def __init__(self, sender: socket.socket, task_id: str, *, heard: bool) -> None:
        self.retry_at = None if heard else 0.0
        self._socket = sender
        self._task_id = task_id
        self._delay_s = _FIRST_RETRY_S

    def send(self, now: float) -> None:
        """Send the hint, or plan to send it again when the engine's queue is full."""
        if try_hint(self._socket, self._task_id):
            self.retry_at = None
            self._delay_s = _FIRST_RETRY_S
        else:
            self.retry_at = now + self._delay_s
            self._delay_s = min(self._delay_s * 2, _LAST_RETRY_S)
