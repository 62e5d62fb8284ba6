"""Signal a task's tree, and no other process. Runs in: shim. Owns: nothing.

The leader is not reaped before its tree is gone (supervisor/shim/reaper.py), so no other process or group can get its
pid. Every other process is signalled through a pidfd that is opened first and proven by the start time afterwards.
"""

import os
import signal

from supervisor.hostos.procfs import children, descendants, start_ticks

__all__ = ["kill_tree", "signal_group", "signal_tree"]


# A fork bomb that forks faster than the shim sweeps must not keep it from its other work.
_SWEEPS_LIMIT = 1000


def signal_group(leader: int, numbers: tuple[int, ...]) -> None:
    """Send signals to the group of the unreaped leader."""
    for number in numbers:
        try:
            os.killpg(leader, number)
        except (ProcessLookupError, PermissionError):
            # The group is empty, or levity may signal none of it (a set-user-id program).
            return


def signal_tree(leader: int, numbers: tuple[int, ...]) -> None:
    """Send signals to the group and to every living descendant of this process outside it."""
    signal_group(leader, numbers)
    for pid, ticks in descendants(os.getpid()):
        try:
            if os.getpgid(pid) != leader:
                _signal_process(pid, ticks, numbers)
        except OSError:
            continue  # Gone, not to be signalled by levity, or no descriptor is free: there are more rounds.


def kill_tree(leader: int) -> None:
    """Send SIGKILL to the whole tree; to be called again until nothing lives.

    A look through /proc never catches a process that forks and exits all the time: it is gone by then. But its child
    becomes a child of this process, and the kernel keeps a list of those. Once all of that list have the signal, none
    of them forks any more (fork(2) fails with a fatal signal pending).
    """
    signal_tree(leader, (signal.SIGKILL,))
    killed = {leader}
    for _ in range(_SWEEPS_LIMIT):
        news = set(children()) - killed
        if not news:
            return
        for pid in news:
            # No other process gets the pid of a child that is not reaped.
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        killed |= news


def _signal_process(pid: int, ticks: int, numbers: tuple[int, ...]) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        if start_ticks(pid) == ticks:
            for number in numbers:
                signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)
