"""Fork a task's process and have it execute its command. Runs in: shim. Owns: nothing afterwards.

Between fork and execve(2) the child runs a straight line; it reports a failure through a close-on-exec pipe.
"""

import errno
import os

from supervisor.shim.pre_exec import STEPS, MakePreExec
from supervisor.spool.start_failure import HOST, StartFailure

__all__ = ["LaunchError", "launch", "start_failure"]


class LaunchError(Exception):
    """The command was not executed; `failure` says why."""

    def __init__(self, failure: StartFailure) -> None:
        super().__init__(f"{failure.stage}: {os.strerror(failure.errno)}")
        self.failure = failure


def start_failure(error: LaunchError | OSError) -> StartFailure:
    """Return why a task did not run."""
    return error.failure if isinstance(error, LaunchError) else StartFailure(HOST, error.errno or errno.EIO)


def launch(pre_exec: MakePreExec, directory_fd: int, stdin: int, stdout: int, stderr: int) -> int:
    """Fork, and have the child go through the steps of what `pre_exec` makes, up to execve(2).

    `stdin` is -1 for a task without input. Returns the child's pid once execve(2) succeeded; LaunchError if a step
    failed.
    """
    read_end, write_end = os.pipe()
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(pre_exec, directory_fd, (stdin, stdout, stderr), shim, write_end)
        finally:
            os._exit(127)
    os.close(write_end)
    told = os.read(read_end, 64)
    os.close(read_end)
    if told:
        os.waitpid(pid, 0)
        raise LaunchError(StartFailure.from_text(told.decode("ascii", "replace")) or StartFailure(HOST, errno.EIO))
    return pid


def _become(pre_exec: MakePreExec, directory_fd: int, streams: tuple[int, int, int], shim: int, report: int) -> None:
    stage = HOST
    try:
        task = pre_exec(directory_fd, streams, shim)
        for name, step in STEPS:
            stage = name
            step(task)
    except OSError as error:
        os.write(report, StartFailure(stage, error.errno or errno.EIO).to_text().encode())
    except Exception:  # noqa: BLE001 - a bug of ours must not pass for a started command
        os.write(report, StartFailure(HOST, errno.EIO).to_text().encode())
