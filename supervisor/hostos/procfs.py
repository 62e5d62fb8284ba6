"""Look at processes in /proc. Runs in: zygote, shim, engine, arbiter. Owns: nothing.

Lean on purpose: there is a shim for each task, and psutil would cost each of them more than a MiB.
"""

import os

__all__ = ["children", "descendants", "initial_environment", "living_children", "start_ticks"]


def initial_environment() -> dict[bytes, bytes]:
    """Return the environment that this process, or the one it was forked from, was executed with.

    Not os.environ: where the locale is C, Python adds an LC_CTYPE of its own to that (PEP 538).
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [entry.partition(b"=") for entry in file.read().split(b"\0")]
    except OSError:
        return dict(os.environb)
    return {name: value for name, equals, value in pairs if equals}


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the third on; [] for a process that is gone or hidden."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(fd, 4096).rpartition(b")")[2].split()
    except OSError:
        return []
    finally:
        os.close(fd)


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (the wall clock does not move it); 0 if unknown."""
    fields = _stat_fields(pid)
    return int(fields[22 - 3]) if fields else 0


def children() -> list[int]:
    """Return this (single-threaded) process's children and zombies; [] where the kernel does not tell (Linux 4.2)."""
    try:
        fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        found = b""
        while part := os.read(fd, 65536):
            found += part
        return [int(pid) for pid in found.split()]
    except OSError:
        return []
    finally:
        os.close(fd)


def living_children(parent: int) -> list[int]:
    """Return the pids of the living children of a process, without zombies."""
    return [pid for pid, _ticks in _by_parent().get(parent, [])]


def descendants(root: int) -> list[tuple[int, int]]:
    """Return (pid, start ticks) of each living descendant of `root`, parents before their children, without zombies."""
    by_parent = _by_parent()
    found: list[tuple[int, int]] = []
    pending = [root]
    while pending:
        below = by_parent.get(pending.pop(0), [])
        found += below
        pending += [pid for pid, _ticks in below]
    return found


def _by_parent() -> dict[int, list[tuple[int, int]]]:
    by_parent: dict[int, list[tuple[int, int]]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return by_parent
    for name in names:
        if name.isdigit() and (fields := _stat_fields(int(name))) and fields[0] not in (b"Z", b"X"):
            by_parent.setdefault(int(fields[1]), []).append((int(name), int(fields[22 - 3])))
    return by_parent
