"""Reap a task's processes: all that are adopted at once, the leader last. Runs in: shim. Owns: nothing.

As the subreaper of its task, the shim is the parent of every orphan in the task's tree (prctl(2)).
supervisor/shim/monitor.py calls it when a child has ended.
"""

import os

__all__ = ["has_living_children", "reap_all_but", "reap_rest"]


def has_living_children() -> bool:
    """Whether any child, adopted ones included, is not a zombie. Without one a subreaper has no descendants.

    waitid(2) without WEXITED does not look at zombies and fails with ECHILD when there is nothing else.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def reap_all_but(leader: int) -> os.waitid_result | None:
    """Reap adopted children that are over; return how the leader ended, unreaped, once it has.

    From then on nothing more is reaped here: waitid(2) shows the leader, the oldest child, first.
    """
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if info is None or info.si_pid == leader:
            return info
        os.waitpid(info.si_pid, 0)


def reap_rest(leader: int) -> None:
    """Reap the leader, and every other child that is over."""
    os.waitpid(leader, 0)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
