"""What psutil knows about processes. Runs in: arbiter, engine; never in a shim. Owns: nothing.

The only module that imports psutil.
"""

import os

import psutil

__all__ = ["kill_trees", "port_holder"]


def port_holder(port: int) -> str:
    """Say who listens on a TCP port: `process 123 (redis-server)`, or "another process" where we may not know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                holder = _starter(psutil.Process(connection.pid))
                return f"process {holder.pid} ({holder.name()})"
    except (psutil.Error, OSError):
        pass
    return "another process"


def _starter(process: psutil.Process) -> psutil.Process:
    """Return the arbiter in place of its front-end, which has the port from it and would only be started again."""
    parent = process.parent() if process.name() == "levity-frontend" else None
    return process if parent is None else parent


def kill_trees(mark: str, trees: dict[str, tuple[int, int]]) -> set[str]:
    """Send SIGKILL to every process of the given trees, and return the trees of which one was found.

    Call it again until that is none. A tree has a name, which is the value of `mark` in the environment of each of
    its processes, and a session and a group that are proof enough as well, unless they are 0. psutil checks that a pid
    still is the process that it looked at before it signals.
    """
    by_number = {number: name for name, numbers in trees.items() for number in numbers if number}
    found = set()
    for process in psutil.process_iter():
        try:
            name = _tree_of(process, mark, by_number)
            if name in trees and process.pid != os.getpid():
                process.kill()
                found.add(name)
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue  # Gone, or not ours to look at.
    return found


def _tree_of(process: psutil.Process, mark: str, by_number: dict[int, str]) -> str:
    numbers = (os.getsid(process.pid), os.getpgid(process.pid))
    name = by_number.get(numbers[0]) or by_number.get(numbers[1])
    if name and process.status() != psutil.STATUS_ZOMBIE:
        return name
    return process.environ().get(mark, "")
