"""Find the processes of one levityd by the mark in their environment. Owns: nothing."""

from collections.abc import Iterable, Iterator

import psutil

__all__ = ["MARK", "descendants", "marked", "roles", "title"]

# Not LEVITY_*: levityd takes those out of its zygote's environment, and this one shall reach shims and tasks too.
MARK = "TEST_LEVITYD_MARK"


def title(process: psutil.Process) -> str:
    """Return what ps shows of a process; "" for one that is gone or a zombie."""
    try:
        arguments = process.cmdline()
    except psutil.Error:
        return ""
    return arguments[0] if arguments and arguments[0].startswith("levityd:") else " ".join(arguments)


def marked(mark: str) -> Iterator[psutil.Process]:
    """Yield every living process that was started with this mark."""
    entry = f"{MARK}={mark}".encode()
    for pid in psutil.pids():  # Not process_iter: its cache is not meant for the two threads of the race tests.
        try:
            # A zombie has no environment. psutil's own look at each process takes five times as long.
            with open(f"/proc/{pid}/environ", "rb") as environment:
                if entry in environment.read().split(b"\0"):
                    yield psutil.Process(pid)
        except (OSError, psutil.Error):
            continue


def descendants(pids: Iterable[int]) -> set[int]:
    """Return the children of these processes, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for pid in psutil.pids():
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # proc_pid_stat(5): the name, in brackets, may hold anything; behind it are the state and the parent.
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    left = list(pids)
    while left:
        below = children.get(left.pop(), [])
        left += [pid for pid in below if pid not in found]
        found.update(below)
    return found


def roles(mark: str) -> dict[str, list[int]]:
    """Return pids by role: "arbiter", "front-end", "engine", "zygote", "shim ID"; other processes are not listed."""
    found: dict[str, list[int]] = {}
    for process in marked(mark):
        head, colon, role = title(process).partition("levityd: ")
        if colon and not head:
            found.setdefault(role, []).append(process.pid)
    return found
