"""The state directory: made, checked and taken by one levityd. Runs in: arbiter. Owns: the lock on it."""

import os
import stat
import time

from supervisor.arbiter.startup_error import CONFIGURATION, RefusedError
from supervisor.hostos.locks import lock_holder, try_lock
from supervisor.settings import FRONT_END_LOCK_FILE, LOCK_FILE, LockByte

__all__ = ["enter_state_dir", "lock_state_dir"]

_REMNANT_WAIT_S = 5.0
_ANOTHER = "give another one with --state-dir or LEVITY_STATE_DIR"


def enter_state_dir(path: str) -> None:
    """Make the directory if need be, check that it is ours alone, and make it the working directory."""
    try:
        _make_parents(path)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        _check(path)
        os.chdir(path)
    except OSError as error:
        raise RefusedError(
            f"state directory {path}: {error.strerror}; {_ANOTHER}",
            CONFIGURATION,
        ) from error


def _make_parents(path: str) -> None:
    parent = os.path.dirname(path)
    try:
        os.makedirs(parent, mode=0o755, exist_ok=True)
    except FileExistsError:
        raise RefusedError(f"state directory {path}: {parent} is not a directory; {_ANOTHER}", CONFIGURATION) from None


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
        raise RefusedError(f"state directory {path} {wrong}", CONFIGURATION)


def lock_state_dir(path: str) -> int:
    """Take the state directory for this process.

    Return the descriptor that must stay open. Refused while another has it.
    """
    fd = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if not try_lock(fd, LockByte.ARBITER):
        holder = lock_holder(fd, LockByte.ARBITER)
        raise RefusedError(f"another levityd (process {holder}) has the state directory {path}; stop it, or {_ANOTHER}")
    _wait_for_remnants(fd)
    return fd


def _wait_for_remnants(fd: int) -> None:
    """An arbiter that was killed leaves children that end by themselves.

    Until they have, two engines would be at work.
    """
    give_up_at = time.monotonic() + _REMNANT_WAIT_S
    with open(FRONT_END_LOCK_FILE, "ab", opener=_open_lock) as front_end:
        while holder := lock_holder(fd, LockByte.ENGINE) or lock_holder(front_end.fileno()):
            if time.monotonic() > give_up_at:
                raise RefusedError(
                    f"process {holder} of an earlier levityd does not end; kill it and start levityd again"
                )
            time.sleep(0.01)


def _open_lock(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
