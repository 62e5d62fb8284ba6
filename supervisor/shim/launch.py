"""Fork a task's process and have it execute its command. Runs in: shim. Owns: nothing afterwards.

Between fork and execve(2) the child runs a straight line; what fails is told through a close-on-exec pipe.
"""

import errno
import os
import signal
from collections.abc import Callable

from supervisor.hostos.kernel import request_parent_death_signal
from supervisor.shim.program import Program
from supervisor.spool.start_status import CHDIR_FLAG, EXEC_FLAG, pack_start_status

__all__ = ["LaunchError", "launch", "start_status"]


class Stage:
    """Where the child is on its way to execve(2)."""

    HOST, CHDIR, EXEC = "host", "chdir", "exec"


_FLAGS = {Stage.HOST: 0, Stage.CHDIR: CHDIR_FLAG, Stage.EXEC: EXEC_FLAG}


class LaunchError(Exception):
    """The command could not be executed: `stage` is a Stage, `errno` what the kernel said."""

    def __init__(self, stage: str, number: int) -> None:
        super().__init__(f"{stage}: {os.strerror(number)}")
        self.stage = stage
        self.errno = number


def start_status(error: LaunchError | OSError) -> int:
    """Return the exit status by which a shim tells why its task did not run."""
    return pack_start_status(error.errno, _FLAGS[error.stage] if isinstance(error, LaunchError) else 0)


def launch(prepare: Callable[[int], Program], directory_fd: int, stdin: int, stdout: int, stderr: int) -> int:
    """Fork, have the child call `prepare(directory_fd)` and execute what it returns, in a process group of its own.

    `stdin` is -1 for a task without input. Returns the child's pid once execve(2) succeeded; LaunchError if something
    failed.
    """
    read_end, write_end = os.pipe()
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(prepare, directory_fd, (stdin, stdout, stderr), shim, write_end)
        finally:
            os._exit(127)
    os.close(write_end)
    told = os.read(read_end, 64)
    os.close(read_end)
    if told:
        os.waitpid(pid, 0)
        stage, _colon, number = told.decode().partition(":")
        raise LaunchError(stage, int(number))
    return pid


def _become(
    prepare: Callable[[int], Program], directory_fd: int, streams: tuple[int, int, int], shim: int, report: int
) -> None:
    stage = Stage.HOST
    try:
        os.setpgid(0, 0)
        request_parent_death_signal(signal.SIGKILL)
        if os.getppid() != shim:
            return
        os.dup2(streams[1], 1)
        os.dup2(streams[2], 2)
        program = prepare(directory_fd)
        program.connect(streams[0])
        # Or the task could make it its working directory, by /proc/self/fd, although it may not go there by its name.
        os.close(directory_fd)
        program.restore_defaults()
        program.change_user()
        # Asked again: the kernel forgets it when the user changes.
        request_parent_death_signal(signal.SIGKILL)
        if os.getppid() != shim:
            return
        stage = Stage.CHDIR
        program.enter()
        stage = Stage.EXEC
        program.execute()
    except OSError as error:
        os.write(report, f"{stage}:{error.errno}".encode())
    except Exception:  # noqa: BLE001 - a bug of ours must not pass for a started command
        os.write(report, f"{Stage.HOST}:{errno.EIO}".encode())
