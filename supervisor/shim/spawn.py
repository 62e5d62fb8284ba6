"""Fork a task's process and have it execute its command. Runs in: shim. Owns: nothing afterwards.

Between fork and execve(2) the child runs a straight line; what fails is told through a close-on-exec pipe.
"""

import errno
import os
import signal
from collections.abc import Callable

from supervisor.hostos.kernel import request_parent_death_signal
from supervisor.shim.command import Program
from supervisor.spool.start_failure import CHDIR, EXEC, HOST, StartFailure

__all__ = ["LaunchError", "launch", "start_failure"]


class LaunchError(Exception):
    """The command was not executed; `failure` says why."""

    def __init__(self, failure: StartFailure) -> None:
        super().__init__(f"{failure.stage}: {os.strerror(failure.errno)}")
        self.failure = failure


def start_failure(error: LaunchError | OSError) -> StartFailure:
    """Return why a task did not run."""
    return error.failure if isinstance(error, LaunchError) else StartFailure(HOST, error.errno or errno.EIO)


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
        raise LaunchError(StartFailure.from_text(told.decode("ascii", "replace")) or StartFailure(HOST, errno.EIO))
    return pid


def _become(
    prepare: Callable[[int], Program], directory_fd: int, streams: tuple[int, int, int], shim: int, report: int
) -> None:
    stage = HOST
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
        stage = CHDIR
        program.enter()
        stage = EXEC
        program.execute()
    except OSError as error:
        os.write(report, StartFailure(stage, error.errno or errno.EIO).to_text().encode())
    except Exception:  # noqa: BLE001 - a bug of ours must not pass for a started command
        os.write(report, StartFailure(HOST, errno.EIO).to_text().encode())
