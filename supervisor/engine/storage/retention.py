"""Keep what tasks have written within bounds: the oldest ended task's output goes first, its result stays.

Runs in: engine. Owns: nothing. It checks when there may be more on the disk than before, at most about once a second,
and never by itself: an idle levityd sleeps. In a live task's shim
supervisor/spool/writer.py removes output over the task's own cap.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.engine.loop import Loop, Timer
from supervisor.engine.storage import task_directory as directory
from supervisor.engine.storage.registry import Logs, Registry, RegistryUnusableError
from supervisor.log import log
from supervisor.settings import Keeping

__all__ = ["Disk", "Limits", "Retention", "must_go"]

_PAUSE_S = 1.0
# Removing takes the longer the more there is (measured: 0.15 to 0.5 s for 1 GiB), and queries wait meanwhile.
_TURN_BYTES = 32 * 1024 * 1024
# Removed at a time for a task that waits for room although the disk seems to have some (the quota of a user).
_ROOM_BYTES = 4 * 1024 * 1024
_MIN_FREE_BYTES = 2**30
_MIN_FREE_SHARE = 20
# On a disk that others have filled, ended tasks keep this little together: otherwise every log would be gone as soon as
# its task is over, and nothing would be won. Where a task waits for room, this goes, too.
_SPARED_BYTES = 64 * 1024 * 1024
_SPARED_SHARE = 100


@dataclass(frozen=True)
class Limits:
    """In bytes: what all ended tasks may keep together, and what shall stay free on the disk; 0 is no limit.

    `spared` is what they may keep together however little is free. A task that ended less than `min_age_s` seconds ago
    keeps its output.
    """

    quota: int
    min_free: int
    spared: int
    min_age_s: float = 0.0

    @classmethod
    def of(cls, keeping: Keeping, disk: "Disk") -> "Limits":
        """Return the limits on a disk, with a default where no minimum was given."""
        min_free = keeping.min_free
        if min_free is None:
            min_free = min(_MIN_FREE_BYTES, disk.total // _MIN_FREE_SHARE)
        return cls(keeping.log_quota, min_free, min(_SPARED_BYTES, disk.total // _SPARED_SHARE), keeping.min_age_s)


@dataclass(frozen=True)
class Disk:
    """The disk at the beginning of a sweep, in bytes; `is_awaited`: a task waits for room on it."""

    total: int
    free: int
    is_awaited: bool = False

    @classmethod
    def now(cls, *, is_awaited: bool = False) -> "Disk":
        """Return the disk of the working directory, which is the state directory."""
        found = os.statvfs(".")
        return cls(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, is_awaited)


def must_go(stored: int, freed: int, disk: Disk, limits: Limits) -> bool:
    """Return whether the oldest output must go: `stored` is what all ended tasks keep, `freed` what this sweep removed.

    What was removed is counted and the disk not asked again: some file systems (btrfs, xfs) are late to tell.
    """
    if limits.quota and stored > limits.quota:
        return True
    if not limits.min_free:
        return False
    if disk.is_awaited and freed < _ROOM_BYTES:
        return True
    return disk.free + freed < limits.min_free and (disk.is_awaited or stored > limits.spared)


class Retention:
    """Removes output that is over the limits, a bit in each turn of the loop.

    `is_awaited()`: whether a task waits for room. `clock()` is in monotonic seconds, as the loop's is. `time_ns()` is
    the time of day. `disk(is_awaited=...)` looks at the disk.
    """

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        limits: Limits,
        is_awaited: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        time_ns: Callable[[], int] = time.time_ns,
        disk: Callable[..., Disk] = Disk.now,
    ) -> None:
        self.limits = limits
        self._loop = loop
        self._registry = registry
        self._is_awaited = is_awaited
        self._clock = clock
        self._time_ns = time_ns
        self._disk_now = disk
        self._timer: Timer | None = None
        self._checked_at = clock() - _PAUSE_S
        self._disk = Disk(0, 0)
        self._freed = 0
        self._removed = 0

    def __repr__(self) -> str:
        return f"<Retention {self._registry.logs_bytes} B kept{', about to check' if self._timer else ''}>"

    def check_soon(self, urgent: bool = False) -> None:
        """Check soon whether output must go; `urgent`: now, for a task waits for room."""
        now = self._clock()
        due = now if urgent else max(now, self._checked_at + _PAUSE_S)
        if self._timer is None or due < self._timer.when:
            self._call_later(due - now, self._check)

    def _call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.later(delay_s, call)

    def _check(self) -> None:
        self._checked_at = self._clock()
        self._disk = self._disk_now(is_awaited=self._is_awaited())
        self._freed = self._removed = 0
        self._sweep()

    def _sweep(self) -> None:
        self._timer = None
        try:
            goes_on = must_go(self._registry.logs_bytes, self._freed, self._disk, self.limits) and self._remove_oldest()
        except RegistryUnusableError as error:
            log(f"levityd: {error}: what tasks have written cannot be swept now")
            return
        if goes_on:
            self._call_later(0.0, self._sweep)
            return
        if self._removed:
            self._report()
        if self._disk.is_awaited and self._freed:
            self._call_later(_PAUSE_S, self._check)  # What was removed should have been enough. Was it?

    def _remove_oldest(self) -> bool:
        """Remove a bit of the output of the task that ended first; False when there is none, or it cannot be done."""
        oldest = self._registry.oldest_logs()
        if oldest is None or self._must_wait(oldest):
            return False
        try:
            freed, is_all = directory.remove_output(oldest.id, _TURN_BYTES)
        except OSError as error:
            # Read-only, say, or immutable. It must not keep all others from being removed for ever.
            then = "the next sweep tries it again after all others"
            log(f"levityd: the output of task {oldest.id} cannot be removed: {error.strerror}; {then}")
            self._registry.put_off_logs(oldest, self._time_ns())
            return False
        self._freed += freed
        if is_all:
            self._registry.drop_logs(oldest)
            self._removed += 1
        return True

    def _must_wait(self, logs: Logs) -> bool:
        """Check again later, and return True, if a task ended so lately that a client may be reading its output."""
        age_s = (self._time_ns() - logs.ended_ns) / 1e9
        left_s = self.limits.min_age_s - age_s
        # Where the clock was set back, the end lies in the future: such output would stay for as long as the step was.
        if self._disk.is_awaited or age_s < 0 or left_s <= 0:
            return False
        self._call_later(left_s, self._check)
        return True

    def _report(self) -> None:
        """Tell the operator that output is gone."""
        tasks = f"{self._removed} task{'s' * (self._removed != 1)}"
        limits = f"--log-quota is {self.limits.quota} bytes, --min-free {self.limits.min_free}"
        log(f"levityd: removed the output of {tasks} that ended first, {self._freed} bytes: {limits}")
