"""Kernel calls that Python has no name for. Runs in: every supervisor process. Owns: nothing.

The only module that imports ctypes. Each call returns whether the kernel did it, since a kernel without it is no error.
"""

import ctypes

__all__ = ["become_subreaper", "preload_libgcc", "request_parent_death_signal", "set_name"]

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)


def _prctl_does(option: int, argument: int | bytes) -> bool:
    # Plain values, not ctypes' own types: a shim pays 20 KiB for each of those that it touches.
    return _prctl is not None and _prctl(option, argument, 0, 0, 0) == 0


def become_subreaper() -> bool:
    """Have orphaned descendants become this process's children instead of init's (prctl(2), Linux 3.4)."""
    return _prctl_does(_PR_SET_CHILD_SUBREAPER, 1)


def request_parent_death_signal(signal_number: int) -> bool:
    """Have the kernel send this process a signal when the thread that forked it ends (prctl(2)).

    Survives execve(2) except of a set-user-id file; not inherited by children. Check getppid(2) afterwards: the parent
    may be gone already.
    """
    return _prctl_does(_PR_SET_PDEATHSIG, signal_number)


def set_name(name: str) -> bool:
    """Set what ps(1) calls comm: at most 15 bytes."""
    return _prctl_does(_PR_SET_NAME, name.encode())


def preload_libgcc() -> None:
    """Load what glibc's pthread_exit loads late: without a free descriptor then, it aborts the whole process."""
    try:
        ctypes.CDLL("libgcc_s.so.1")
    except OSError:
        pass  # Not glibc: nothing is loaded late.
