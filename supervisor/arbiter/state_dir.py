"""The state directory: made, checked, and locked for one levityd. Runs in: arbiter. Owns: the lock on it."""

import os
import stat
import time
from collections.abc import Callable

from supervisor.arbiter.startup_error import CONFIGURATION, StartupError
from supervisor.hostos.locks import lock_holder, open_lock, try_lock
from supervisor.settings import FRONT_END_LOCK_FILE, LOCK_FILE, LockByte

__all__ = ["enter_state_dir", "lock_state_dir"]

_REMNANT_WAIT_S = 5.0
_POLL_S = 0.01
_ANOTHER = "give another one with --state-dir or LEVITY_STATE_DIR"


def enter_state_dir(path: str) -> None:
    """Make the directory if need be, check that only this user can use it, and make it the working directory."""
    try:
        _make_parents(path)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        _check(path)
        os.chdir(path)
    except OSError as error:
        raise StartupError(
            f"state directory {path}: {error.strerror}; {_ANOTHER}",
            CONFIGURATION,
        ) from error


def _make_parents(path: str) -> None:
    parent = os.path.dirname(path)
    try:
        os.makedirs(parent, mode=0o755, exist_ok=True)
    except FileExistsError:
        raise StartupError(f"state directory {path}: {parent} is not a directory; {_ANOTHER}", CONFIGURATION) from None


def _check(path: str) -> None:
    found = os.lstat(path)
    wrong = ""
    if not stat.S_ISDIR(found.st_mode):
        wrong = f"{'is a symbolic link' if stat.S_ISLNK(found.st_mode) else 'is not a directory'}; {_ANOTHER}"
    elif found.st_uid != os.geteuid():
        wrong = f"belongs to user {found.st_uid}, not to {os.geteuid()} who runs levityd; {_ANOTHER}"
    elif found.st_mode & 0o077:
        wrong = (
            f"has mode {stat.S_IMODE(found.st_mode):04o}; others could read tasks and their output: chmod 700 {path}"
        )
    if wrong:
        raise StartupError(f"state directory {path} {wrong}", CONFIGURATION)


def lock_state_dir(path: str, now: Callable[[], float] = time.monotonic) -> int:
    """Lock the state directory, which is the working directory, for this process; StartupError while another has it.

    Return the descriptor that must stay open. `path` is for messages.
    """
    fd = open_lock(LOCK_FILE)
    if not try_lock(fd, LockByte.ARBITER):
        holder = lock_holder(fd, LockByte.ARBITER)
        raise StartupError(f"another levityd (process {holder}) has the state directory {path}; stop it, or {_ANOTHER}")
    _wait_for_remnants(fd, now)
    return fd


def _wait_for_remnants(fd: int, now: Callable[[], float]) -> None:
    """Wait for the children of an arbiter that was killed: they end by themselves, and two engines must never be."""
    give_up_at = now() + _REMNANT_WAIT_S
    front_end_fd = open_lock(FRONT_END_LOCK_FILE)
    try:
        while holder := lock_holder(fd, LockByte.ENGINE) or lock_holder(front_end_fd):
            if now() > give_up_at:
                raise StartupError(
                    f"process {holder} of an earlier levityd does not end; kill it and start levityd again"
                )
            time.sleep(_POLL_S)
    finally:
        os.close(front_end_fd)
