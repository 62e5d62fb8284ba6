"""What psutil knows about processes. Runs in: arbiter, engine; never in a shim. Owns: nothing.

The only module that imports psutil.
"""

import os

import psutil

__all__ = ["kill_tree_of", "port_holder"]


def port_holder(port: int) -> str:
    """Say who listens on a TCP port: `process 123 (redis-server)`, or "another process" where we may not know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass
    return "another process"


def kill_tree_of(mark: tuple[str, str], session: int, group: int) -> int:
    """Send SIGKILL to every process of a tree that is found, and return their number; call again until it is 0.

    `mark` is a name and its value in the environment of every process of the tree. `session` and `group`, unless 0, are
    proof enough as well. psutil checks that a pid still is the process that it looked at before it signals.
    """
    killed = 0
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _belongs(process, mark, session, group):
                process.kill()
                killed += 1
        except psutil.Error:
            continue  # Gone, or not ours to look at.
    return killed


def _belongs(process: psutil.Process, mark: tuple[str, str], session: int, group: int) -> bool:
    try:
        if session and (os.getsid(process.pid) == session or os.getpgid(process.pid) == group):
            return bool(process.status() != psutil.STATUS_ZOMBIE)
    except (ProcessLookupError, PermissionError):
        return False
    name, value = mark
    return process.environ().get(name) == value
