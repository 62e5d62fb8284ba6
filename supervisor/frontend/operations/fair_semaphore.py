"""Let few threads at a time move many bytes. Runs in: front-end. Owns: nothing.

All threads at once would not be faster, for there are only so many processors. But each thread that moves bytes wants a
processor, and so does each client that takes them; a client with a short request would wait behind them all.
"""

import os
import threading
from collections import deque

__all__ = ["FairSemaphore"]


class FairSemaphore:
    """So many places, given in the order in which they were asked for; a context manager that takes one."""

    def __init__(self, places: int | None = None) -> None:
        self._lock = threading.Lock()
        self._free = places or len(os.sched_getaffinity(0))  # guarded by self._lock
        self._waiting: deque[threading.Lock] = deque()  # guarded by self._lock

    def __repr__(self) -> str:
        return f"<FairSemaphore {self._free} free, {len(self._waiting)} waiting>"

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_exception: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
