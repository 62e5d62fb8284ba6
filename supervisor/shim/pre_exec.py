"""The steps of a task's process from fork(2) to execve(2), as a row. Runs in: the task's own process. Owns: nothing.

Here and not in the shim, because the memory of this process is gone with execve(2), while every page that a shim writes
to stays its own for as long as the task lives.
"""

import errno
import os
import signal
from collections.abc import Callable

from supervisor.hostos.files import sync_path
from supervisor.hostos.kernel import request_parent_death_signal
from supervisor.hostos.locks import lock_holder, open_lock, wait_for_lock
from supervisor.shim.command import Command, Surroundings
from supervisor.shim.shim_record import prepare_start
from supervisor.spool.files import load_record
from supervisor.spool.layout import LOCK, SPEC, START_BYTE, TASKS, WATCH_BYTE
from supervisor.spool.records import Spec

__all__ = ["STEPS", "MakePreExec", "PreExec"]

# Makes the steps of one task: its open directory; the pipes of stdin, stdout and stderr; the pid of its shim.
MakePreExec = Callable[[int, tuple[int, int, int], int], "PreExec"]


class PreExec:
    """What one task's process does before it executes its command; `command` is there from the step "note" on."""

    command: Command

    def __init__(self, surroundings: Surroundings, directory_fd: int, streams: tuple[int, int, int], shim: int) -> None:
        """Do nothing yet. `streams`: the pipes of stdin (-1 for none), stdout and stderr; `shim`: its pid."""
        self._surroundings = surroundings
        self._directory_fd = directory_fd
        self._streams = streams
        self._shim = shim

    def leave_group(self) -> None:
        """Leave the shim's process group for a new one, and die with the shim."""
        os.setpgid(0, 0)
        self._die_with_shim()

    def hold_off_others(self) -> None:
        """Keep other shims from taking the task until execve(2), which closes the descriptor of this lock.

        If the shim no longer has the task, it was killed, and another shim may have the task: then end this process.
        """
        lock_fd = open_lock(LOCK, self._directory_fd, create=False)
        wait_for_lock(lock_fd, START_BYTE)
        if lock_holder(lock_fd, WATCH_BYTE) != self._shim:
            os._exit(127)

    def note(self) -> None:
        """Write which shim watches the task, and a second record that the task is started, for the shim to rename."""
        spec = Spec.from_json(load_record(self._directory_fd, SPEC))
        if spec is None:
            # The engine wrote one; nothing is made up for what is missing in it, above all not whom the task runs as.
            raise OSError(errno.EINVAL, "the spec is not whole")
        self.command = Command(spec, self._surroundings)
        prepare_start(self._directory_fd, spec, self._shim, self._surroundings.boot_id)

    def sync(self) -> None:
        """Put the spec on the disk before the task runs: the engine tells the client the id next.

        The record of which shim watches need not be there: a power cut ends shim and task, and the spec says in which
        boot it was accepted. Each fsync(2) costs a flush of the disk.
        """
        for name in (SPEC, "."):
            sync_path(name, self._directory_fd)
        sync_path(TASKS)

    def connect(self) -> None:
        """Make the task's pipes descriptors 0 to 2, and close the task's directory.

        By /proc/self/fd the task could make that its working directory, although it may not go there by its name.
        """
        self.command.connect(*self._streams)
        os.close(self._directory_fd)

    def change_user(self) -> None:
        """Become the user that the task runs as."""
        if self.command.change_user():
            # Asked again: the kernel forgets it when the user changes.
            self._die_with_shim()

    def _die_with_shim(self) -> None:
        request_parent_death_signal(signal.SIGKILL)
        if os.getppid() != self._shim:
            os._exit(127)


# In this order. The name of a step is its name in the error when it fails.
STEPS: tuple[tuple[str, Callable[[PreExec], None]], ...] = (
    ("group", PreExec.leave_group),
    ("lock", PreExec.hold_off_others),
    ("note", PreExec.note),
    ("sync", PreExec.sync),
    ("connect", PreExec.connect),
    ("defaults", lambda task: task.command.restore_defaults()),
    ("user", PreExec.change_user),
    ("directory", lambda task: task.command.enter()),
    ("exec", lambda task: task.command.execute()),
)
