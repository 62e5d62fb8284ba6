"""Look at all processes of the host, with psutil. Runs in: arbiter, engine; never in a shim. Owns: nothing.

The only module that imports psutil.
"""

import os

import psutil

__all__ = ["kill_trees", "port_holder"]


def port_holder(port: int) -> str:
    """Return who listens on a TCP port: `process 123 (redis-server)`, or "another process" where we may not see it."""
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
    """Return the arbiter in place of its front-end: the port is the arbiter's, and it would restart the front-end."""
    parent = process.parent() if process.name() == "levity-frontend" else None
    return process if parent is None else parent


def kill_trees(mark: str, trees: dict[str, tuple[int, int]]) -> set[str]:
    """Send SIGKILL to every process of the given trees, and return the trees of which a process was found.

    Call it again until none is found. A process belongs to a tree if the variable `mark` in its environment has the
    tree's name, or if its session or group is one of the tree's two numbers; a 0 there is none. Before it signals,
    psutil checks that the pid still is the process that was looked at.
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
            continue  # It has ended, or we may not look at it.
    return found


def _tree_of(process: psutil.Process, mark: str, by_number: dict[int, str]) -> str:
    numbers = (os.getsid(process.pid), os.getpgid(process.pid))
    name = by_number.get(numbers[0]) or by_number.get(numbers[1])
    if name and process.status() != psutil.STATUS_ZOMBIE:
        return name
    return process.environ().get(mark, "")
