"""Make ready what a task needs before it is executed. Runs in: the task's own process, before execve(2). Owns: nothing.

Here and not in the shim, because the memory of this process is gone with execve(2), while every page that a shim writes
to stays its own for as long as the task lives.
"""

import errno
import os
import time

from supervisor.hostos.locks import lock_holder, wait_for_lock
from supervisor.hostos.procfs import start_ticks
from supervisor.shim.command import Program, Surroundings
from supervisor.spool.commands import COMMANDS_VERSION
from supervisor.spool.files import load_record, sync_path, write_record
from supervisor.spool.layout import LOCK, SHIM, SPEC, START_BYTE, STARTED, TASKS, WATCH_BYTE
from supervisor.spool.records import ShimRecord, Spec

__all__ = ["Preparation"]


class Preparation:
    """Makes each task ready; called with its open directory."""

    def __init__(self, surroundings: Surroundings, boot_id: str) -> None:
        self._surroundings = surroundings
        self._boot_id = boot_id

    def __call__(self, directory_fd: int) -> Program:
        """Note who watches the accepted task, make the task durable, and return what to execute.

        The spec is on the disk before the task runs: the id will be told to the client next. Who watches need not be:
        a power cut ends both, and the spec says in which boot it was accepted. Each fsync(2) costs a flush of the disk.
        """
        shim = os.getppid()
        _hold_off_others(directory_fd, shim)
        program = self.note(directory_fd, shim)
        for name in (SPEC, "."):
            sync_path(name, directory_fd)
        sync_path(TASKS)
        return program

    def note(self, directory_fd: int, shim: int) -> Program:
        """Write down who watches the task. That it is started is written, too, and holds once the shim renames it."""
        spec = Spec.from_json(load_record(directory_fd, SPEC))
        if spec is None:
            # The engine wrote one; nothing is made up for what is missing in it, above all not whom the task runs as.
            raise OSError(errno.EINVAL, "the spec is not whole")
        program = Program(spec, self._surroundings)
        record = ShimRecord(
            shim,
            spec.options.grace_s,
            log_cap=spec.options.log_cap,
            start_ticks=start_ticks(shim),
            boot_id=self._boot_id,
            commands=COMMANDS_VERSION,
        )
        write_record(directory_fd, SHIM, record.to_json(), durable=False)
        record.task_pid, record.started_ns = os.getpid(), time.time_ns()
        write_record(directory_fd, STARTED, record.to_json(), durable=False)
        return program


def _hold_off_others(directory_fd: int, shim: int) -> None:
    """See to it that no other shim takes the task from here until execve(2), which closes the descriptor and unlocks.

    End this process instead if the task is no longer its shim's: that was killed then, and another may be at it.
    """
    lock_fd = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    wait_for_lock(lock_fd, START_BYTE)
    if lock_holder(lock_fd, WATCH_BYTE) != shim:
        os._exit(127)
