"""Wake threads when something changes in a directory. Runs in: front-end. Owns: one inotify instance, one thread.

There is one instance for all threads, because a user has only 128 by default (inotify(7), max_user_instances). Each
watch is for one change: while no thread waits, a task that writes much costs nothing here.
"""

import os
import struct
import threading
from typing import Self

from supervisor.hostos.kernel import inotify_add, inotify_open, inotify_remove

__all__ = ["Inotify", "Watch", "descriptor_path"]

_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE, _IN_DELETE_SELF = 0x2, 0x80, 0x100, 0x200, 0x400
_IN_ONLYDIR, _IN_ONESHOT = 0x01000000, 0x80000000
_MASK = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF | _IN_ONLYDIR | _IN_ONESHOT
# struct inotify_event: wd, mask, cookie, length of the name that follows.
_EVENT = struct.Struct("iIII")
_OVERFLOW = -1
_READ_SIZE = 64 * 1024


def descriptor_path(fd: int) -> str:
    """Return a path to what is open as `fd`, good until it is closed, even where the real path may not be followed."""
    return f"/proc/self/fd/{fd}"


class Watch:
    """One thread's watch on a directory: `arm`, look at the directory, wait for `fd` to be readable, `clear`; `close`.

    The first change after `arm` makes `fd` readable.
    """

    def __init__(self, inotify: "Inotify", path: str) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.path = path
        self.number = -1  # guarded by the lock of `inotify`
        self._inotify = inotify

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def arm(self) -> bool:
        """Ask for the next change; False where the host cannot tell it: then look again from time to time."""
        return self._inotify.arm(self)

    def clear(self) -> None:
        """Forget the change, so that `fd` is no longer readable."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """End the watch."""
        self._inotify.disarm(self)
        os.close(self.fd)


class Inotify:
    """Makes watches; for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = -2  # guarded by self._lock; -2: not tried yet
        self._armed: dict[int, set[Watch]] = {}  # guarded by self._lock

    def __repr__(self) -> str:
        return f"<Inotify {len(self._armed)} directories>"

    def watch(self, path: str) -> Watch:
        """Return a watch on a directory, not armed."""
        return Watch(self, path)

    def arm(self, watch: Watch) -> bool:
        """Ask for the next change in the directory of a watch; False where the host cannot tell it."""
        with self._lock:
            if watch.number >= 0:
                return True
            if self._fd == -2:
                self._open()
            if self._fd < 0:
                return False
            watch.number = inotify_add(self._fd, watch.path, _MASK)
            if watch.number < 0:
                return False
            self._armed.setdefault(watch.number, set()).add(watch)
            return True

    def disarm(self, watch: Watch) -> None:
        """Ask for no change any more."""
        with self._lock:
            if watch.number < 0:
                return
            others = self._armed[watch.number]
            others.discard(watch)
            if not others:
                del self._armed[watch.number]
                inotify_remove(self._fd, watch.number)
            watch.number = -1

    def _open(self) -> None:
        self._fd = inotify_open()
        if self._fd < 0:
            return
        try:
            threading.Thread(target=self._run, daemon=True, name="inotify").start()
        except RuntimeError:  # No thread could be started now.
            os.close(self._fd)
            self._fd = -2

    def _run(self) -> None:
        while True:
            data = os.read(self._fd, _READ_SIZE)
            numbers = set()
            position = 0
            while position < len(data):
                number, _mask, _cookie, length = _EVENT.unpack_from(data, position)
                numbers.add(number)
                position += _EVENT.size + length
            self._tell(numbers)

    def _tell(self, numbers: set[int]) -> None:
        with self._lock:
            if _OVERFLOW in numbers:
                numbers = set(self._armed)
            for number in numbers:
                # The kernel does not use the number of a watch for one change again, so this is that watch.
                for watch in self._armed.pop(number, ()):
                    watch.number = -1
                    os.eventfd_write(watch.fd, 1)
