"""Have the kernel tell when a task's shim is gone. Runs in: engine. Owns: the pidfds of shims.

What follows is in supervisor/engine/tasks/lifecycle.py and, for a task without an exit record, in dead_shims.py beside
it. The zygote reports a shim that leaves before its task runs (`Tasks.shim_gone`).
"""

import errno
import os
from collections.abc import Callable

from supervisor.engine.loop import Loop
from supervisor.engine.storage.observation import shim_of

__all__ = ["ShimWatch"]

# A shim that has just gone is seen for what it is the next time.
_GONE_RETRY_S = 0.05
# Out of descriptors, some must become free first.
_HOST_RETRY_S = 5.0


class ShimWatch:
    """Watches the shims of live tasks. `look(id)` is called when one is gone, or may have to be watched anew."""

    def __init__(self, loop: Loop, look: Callable[[str], None]) -> None:
        self._loop = loop
        self._look = look
        self._pidfds: dict[str, int] = {}
        self._watched: set[str] = set()

    def __repr__(self) -> str:
        return f"<ShimWatch of {len(self._pidfds)}>"

    def watch(self, task_id: str, shim: int) -> None:
        """Watch the task's shim, if it is not watched already.

        After the pidfd is open, this pid must still hold the task's lock: else it may be another process's by now.
        """
        if task_id in self._pidfds:
            return
        try:
            pidfd = os.pidfd_open(shim)
        except OSError as error:
            self._look_later(task_id, _GONE_RETRY_S if error.errno == errno.ESRCH else _HOST_RETRY_S)
            return
        if not _holds_lock(shim, task_id):
            os.close(pidfd)
            self._look_later(task_id, _GONE_RETRY_S)
            return
        self._pidfds[task_id] = pidfd
        self._watched.add(task_id)
        self._loop.watch(pidfd, lambda _events: self._gone(task_id))

    def has_watched(self, task_id: str) -> bool:
        """Whether a shim of the task is, or was, watched by this engine."""
        return task_id in self._watched

    def stop(self, task_id: str) -> None:
        """Watch the task's shim no longer, if it is watched."""
        if (pidfd := self._pidfds.pop(task_id, -1)) >= 0:
            self._loop.forget(pidfd)
            os.close(pidfd)

    def forget(self, task_id: str) -> None:
        """Forget a task."""
        self.stop(task_id)
        self._watched.discard(task_id)

    def _gone(self, task_id: str) -> None:
        self.stop(task_id)
        self._look(task_id)

    def _look_later(self, task_id: str, delay_s: float) -> None:
        self._loop.later(delay_s, lambda: self._look(task_id))


def _holds_lock(shim: int, task_id: str) -> bool:
    try:
        return shim_of(task_id) == shim
    except OSError:
        return False
