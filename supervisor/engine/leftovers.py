"""Kill what is left of a task whose shim is gone. Runs in: engine. Owns: nothing.

A process belongs to the task if its environment carries the task's mark. While the engine was watching when the shim
died, the session and the group that the shim made are proof as well: their numbers cannot have been used anew yet.
"""

import os

import psutil

__all__ = ["kill_leftovers"]

_MARK = "LEVITY_TASK_ID"


def kill_leftovers(task_id: str, session: int, group: int) -> int:
    """Send SIGKILL to every process of the task that is found, and return their number; call again until it is 0.

    `session` and `group` are the shim's and the task's pid, or 0 when they prove nothing. psutil checks that a pid
    still is the process it found before it signals.
    """
    killed = 0
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _belongs(process, task_id, session, group):
                process.kill()
                killed += 1
        except psutil.Error:
            continue  # Gone, or not ours to look at.
    return killed


def _belongs(process: psutil.Process, task_id: str, session: int, group: int) -> bool:
    try:
        if session and (os.getsid(process.pid) == session or os.getpgid(process.pid) == group):
            return process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError):
        return False
    return process.environ().get(_MARK) == task_id
