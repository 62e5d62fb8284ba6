"""Kernel calls that Python has no name for. Runs in: every supervisor process. Owns: nothing.

The only module that imports ctypes. Each call returns whether the kernel did it: a kernel without the call is no error.
"""

import ctypes
import os
import sys

__all__ = [
    "become_subreaper",
    "forbid_privileges",
    "inotify_add",
    "inotify_open",
    "inotify_remove",
    "leave_session_keyring",
    "preload_libgcc",
    "request_parent_death_signal",
    "set_name",
]

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
# linux/keyctl.h, and the number of keyctl(2), which the C library does not wrap; of 64-bit processes only.
_KEYCTL_JOIN_SESSION_KEYRING = 1
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}

_libc = ctypes.CDLL(None)
_prctl = getattr(_libc, "prctl", None)


def _prctl_does(option: int, argument: int | bytes) -> bool:
    # Plain values, not ctypes' own types: a shim pays 20 KiB for each of those that it touches.
    return _prctl is not None and _prctl(option, argument, 0, 0, 0) == 0


def become_subreaper() -> bool:
    """Have orphaned descendants become this process's children instead of init's (prctl(2), Linux 3.4)."""
    return _prctl_does(_PR_SET_CHILD_SUBREAPER, 1)


def request_parent_death_signal(signal_number: int) -> bool:
    """Have the kernel send this process a signal when the thread that forked it ends (prctl(2)).

    Survives execve(2) except of a set-user-id file, but no change of user; not inherited by children. Check getppid(2)
    afterwards: the parent may be gone already.
    """
    return _prctl_does(_PR_SET_PDEATHSIG, signal_number)


def forbid_privileges() -> bool:
    """Have execve(2) grant nothing to this process and its children, set-user-id files included, for good."""
    return _prctl_does(_PR_SET_NO_NEW_PRIVS, 1)


def leave_session_keyring() -> bool:
    """Get an empty session keyring (session-keyring(7)).

    A change of user keeps the old keyring, and with it the use of every key in it. False where there are no keyrings,
    or where a filter (seccomp(2)) keeps this process and its children from all of them.
    """
    number = _KEYCTL.get(os.uname().machine, -1) if sys.maxsize > 2**32 else -1
    return number >= 0 and int(_libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None)) >= 0


def set_name(name: str) -> bool:
    """Set what ps(1) calls comm: at most 15 bytes."""
    return _prctl_does(_PR_SET_NAME, name.encode())


def preload_libgcc() -> None:
    """Load what glibc's pthread_exit loads late: without a free descriptor then, it aborts the whole process."""
    try:
        ctypes.CDLL("libgcc_s.so.1")
    except OSError:
        pass  # Not glibc: nothing is loaded late.


def inotify_open() -> int:
    """Return a descriptor on which changes of files are told (inotify(7)); -1 where there is none."""
    init = getattr(_libc, "inotify_init1", None)
    return -1 if init is None else int(init(os.O_CLOEXEC))


def inotify_add(fd: int, path: str, mask: int) -> int:
    """Watch a file or directory and return the number of the watch; -1 if it is gone, or there are too many."""
    return int(_libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(mask)))


def inotify_remove(fd: int, number: int) -> bool:
    """End a watch; one that has ended already is no error."""
    return int(_libc.inotify_rm_watch(fd, number)) == 0
