"""Become another user, for good. Runs in: front-end, the task's own process before execve(2). Owns: nothing."""

import errno
import os
from collections.abc import Sequence

from supervisor.hostos.kernel import leave_session_keyring

__all__ = ["become"]


def become(uid: int, gid: int, groups: Sequence[int] = ()) -> None:
    """Make this (single-threaded) process that user and nothing more; OSError if a part of it fails.

    After an error the process must end: a part of the change may be made. The parent's death signal is lost (prctl(2)).
    """
    leave_session_keyring()
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3 or set(os.getgroups()) != set(groups):
        raise PermissionError(errno.EPERM, "the kernel did not change the user")
    if uid != 0 and _may_become_root():
        raise PermissionError(errno.EPERM, "the way back to root is open")


def _may_become_root() -> bool:
    """Whether capabilities have survived the change of user (SECBIT_NO_SETUID_FIXUP, capabilities(7))."""
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return False
    return True
