"""Start a task and wait until there is anything to do for it. Runs in: shim. Owns: nothing afterwards.

A shim waits here for most of its life, and each task has one, so memory decides how this is written. Every page that a
shim or the zygote writes to after their fork stays the shim's own, and Python writes to each object that it as much as
looks at (its reference count). So no object is made here that a waiting shim can do without.
"""

import os
import select
import signal
import socket

from supervisor.hostos.kernel import become_subreaper
from supervisor.hostos.locks import try_lock, unlock, wait_for_lock
from supervisor.hostos.titles import set_title
from supervisor.shim.control import make_control
from supervisor.shim.hint import Hint, try_hint
from supervisor.shim.monitor import Monitor
from supervisor.shim.pre_exec import MakePreExec
from supervisor.shim.spawn import launch
from supervisor.shim.stdin_pump import open_input
from supervisor.shim.termination import Termination
from supervisor.spool.layout import CONTROL, EXIT, LOCK, SHIM, SPEC, START_BYTE, STARTED, STDIN, WATCH_BYTE

__all__ = ["ShimContext", "detach", "start", "take", "undo"]


class ShimContext:
    """What is the same for every shim. Made by the zygote; shims share its memory.

    `pre_exec` makes what a task's process goes through before execve(2), `hints` is the socket of all hints, `drain_s`
    as in supervisor/shim/termination.py.
    """

    __slots__ = ("drain_s", "hints", "pre_exec")

    def __init__(self, pre_exec: MakePreExec, hints: socket.socket, drain_s: float) -> None:
        self.pre_exec = pre_exec
        self.hints = hints
        self.drain_s = drain_s


# Written out here, as `_wake_on_child` is. To call hostos for it costs each waiting shim 16 KiB: Python writes to the
# pages on which those functions lie.
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def detach(title: str) -> None:
    """Become independent of the zygote, and the parent to which the kernel gives the task's orphans."""
    set_title(title, "levity-shim")
    become_subreaper()
    os.setsid()


def take(path: str) -> tuple[int, int] | None:
    """Take the task in this directory; return the open directory and its lock, None when another shim has it.

    The task is this process's for as long as it lives, because the lock's descriptor is never closed. A shim that was
    killed loses the lock a moment before its child is killed, and the child may still reach execve(2): so wait for the
    child's lock, too.
    """
    directory_fd = os.open(path, _DIRECTORY_FLAGS)
    lock_fd = os.open(LOCK, _LOCK_FLAGS, 0o600, dir_fd=directory_fd)
    if not try_lock(lock_fd, WATCH_BYTE):
        return None
    wait_for_lock(lock_fd, START_BYTE)
    unlock(lock_fd, START_BYTE)
    return directory_fd, lock_fd


def start(task_id: str, taken: tuple[int, int], context: ShimContext) -> Monitor | None:
    """Start the task, wait for the first event and return the task's monitor; None if the task was run before.

    `taken` is what `take` returned. LaunchError or OSError if it does not run.
    """
    directory_fd = taken[0]
    control = _claim(directory_fd)
    if control is None:
        return None
    stdin_read, stdin = open_input(directory_fd)
    wakeup = _wake_on_child()
    stdout, stdout_write = os.pipe()
    stderr, stderr_write = os.pipe()
    leader = launch(context.pre_exec, directory_fd, stdin_read, stdout_write, stderr_write)
    # From here on nothing may fail: the task runs.
    os.close(stdout_write)
    os.close(stderr_write)
    os.rename(STARTED, SHIM, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    if stdin >= 0:
        os.close(stdin_read)
    poller = select.poll()
    for fd in (control, wakeup, stdout, stderr):
        poller.register(fd, select.POLLIN)
    heard = try_hint(context.hints, task_id)
    if heard and stdin < 0:  # There may be input already.
        poller.poll()
    fds = (control, wakeup, stdout, stderr)
    hint = Hint(context.hints, task_id, heard=heard)
    return Monitor(taken, leader, fds, stdin, poller, hint, Termination(context.drain_s))


def _claim(directory_fd: int) -> int | None:
    """Return the control FIFO's listening end; None when the task may have run before: it must not run twice."""
    try:
        return make_control(directory_fd)
    except FileExistsError:
        if _was_watched(directory_fd):
            return None
    # An earlier shim was killed before it started anything.
    undo(directory_fd)
    return make_control(directory_fd)


def _was_watched(directory_fd: int) -> bool:
    """Whether an earlier shim wrote its name here."""
    return any(os.access(name, os.F_OK, dir_fd=directory_fd) for name in (SHIM, EXIT))


def undo(directory_fd: int) -> None:
    """Remove what `start` made, CONTROL last: without it, the task has never run and may be tried again."""
    for name in sorted(os.listdir(directory_fd), key=lambda name: (name == CONTROL, name == SHIM)):
        if name not in (SPEC, LOCK) and not name.startswith(STDIN):
            os.unlink(name, dir_fd=directory_fd)


def _wake_on_child() -> int:
    """Return a descriptor that becomes readable whenever a child ends, stops or is adopted as a zombie.

    The zygote has a handler for SIGCHLD already: without one Python would not write here.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    return read_end
