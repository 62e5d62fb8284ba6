"""Fail a test that leaves a child process, a descriptor or a thread behind. Runs in: every test, by itself."""

import gc
import os
import threading
from collections.abc import Iterator

import psutil
import pytest

from tests.support.deadline import eventually

__all__ = ["no_leaks"]

# A thread or child that was told to end may need a moment.
PATIENCE_S = 3.0


def _descriptors() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # That of listdir itself.
    return found


def _children() -> dict[int, str]:
    try:
        # A look at every process of the machine takes milliseconds, and most tests have no child.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}
    found = {}
    for child in psutil.Process().children():
        try:
            found[child.pid] = f"{' '.join(child.cmdline()) or child.name()} ({child.status()})"
        except psutil.NoSuchProcess:
            continue
    return found


def _threads() -> dict[int | None, str]:
    return {thread.ident: thread.name for thread in threading.enumerate()}


class Snapshot:
    """What this process has."""

    def __init__(self) -> None:
        self._descriptors = _descriptors()
        self._children = _children()
        self._threads = _threads()

    def news(self) -> list[str]:
        """Return what has come since this snapshot."""
        # A descriptor's number is used again: its target counts, too.
        descriptors = [
            f"descriptor {fd} -> {to}" for fd, to in _descriptors().items() if self._descriptors.get(fd) != to
        ]
        children = [f"child {pid}: {what}" for pid, what in _children().items() if pid not in self._children]
        threads = [f"thread {name}" for ident, name in _threads().items() if ident not in self._threads]
        return descriptors + children + threads


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Compare before and after. Wider fixtures (shared_daemon) are made before, so what they own is not counted."""
    before = Snapshot()
    yield
    if before.news():
        gc.collect()
        try:
            eventually(lambda: not before.news(), "a clean end", PATIENCE_S)
        except AssertionError:
            if leaks := before.news():
                pytest.fail(f"the test left behind: {'; '.join(leaks)}")
