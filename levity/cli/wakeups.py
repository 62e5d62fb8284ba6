"""A queue of events from threads and signal handlers. Runs in: client. Owns: a pipe, and signal.set_wakeup_fd().

The interpreter runs a signal handler only when the main thread goes on. A main thread that waited for a lock, such as
that of a queue.SimpleQueue, would miss a signal that comes just before the wait, or to another thread. So it waits for
a pipe, into which the interpreter writes at once.
"""

import os
import select
import signal
from threading import RLock

__all__ = ["WakeupQueue"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class WakeupQueue:
    """A queue. `put` is for any thread and for signal handlers, all else for the main thread."""

    def __init__(self) -> None:
        self._waiting: list[object] = []
        # A signal handler may take it while its own thread has it.
        self._lock = RLock()
        self._fds: tuple[int, int] | None = None  # guarded by self._lock
        self._old_wakeup_fd = -1

    def __repr__(self) -> str:
        return f"<WakeupQueue: {len(self._waiting)} waiting>"

    def __enter__(self) -> "Self":
        self._fds = os.pipe()
        for fd in self._fds:
            os.set_blocking(fd, False)
        self._old_wakeup_fd = signal.set_wakeup_fd(self._fds[1], warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._old_wakeup_fd)
        with self._lock:
            fds, self._fds = self._fds, None
        for fd in fds or ():
            os.close(fd)

    def put(self, event: object) -> None:
        """Add an event; after the end of the `with` that has no effect."""
        self._waiting.append(event)
        with self._lock:
            if self._fds:
                try:
                    os.write(self._fds[1], b"\0")
                except BlockingIOError:
                    pass  # A full pipe wakes the main thread, too.

    def get(self) -> object:
        """Wait for the next event and return it."""
        assert self._fds
        poll = select.poll()
        poll.register(self._fds[0], select.POLLIN)
        while not self._waiting:
            poll.poll()
            try:
                os.read(self._fds[0], 4096)
            except BlockingIOError:
                pass
        return self._waiting.pop(0)
