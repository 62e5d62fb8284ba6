"""Why a command did not start, in words. Runs in: engine. Owns: nothing. Never: does I/O."""

import errno
import os

from levity.errors import BadDirectory, CommandNotFound, HostError, InternalError, LevityError, NoSpace, NotExecutable
from supervisor.spool.records import Spec
from supervisor.spool.start_failure import DIRECTORY, EXEC, StartFailure

__all__ = ["host_error", "start_error"]

_WORDS = {
    errno.ENOEXEC: "no program the kernel knows (a script needs a first line like #!/bin/sh)",
    errno.E2BIG: "the arguments and environment are too long",
    errno.EACCES: "permission denied",
    errno.ETXTBSY: "the file is open for writing",
}


def start_error(failure: StartFailure | None, spec: Spec) -> LevityError:
    """Return the error for a task that did not run; `failure` is None if each of its shims was killed before."""
    if failure is None:
        return InternalError(
            "the process that was to watch over the task was killed before it could start it; try again"
        )
    user = _as_user(spec)
    if failure.stage == EXEC:
        return _exec_error(failure.errno, spec.options.argv[0], user)
    if failure.stage == DIRECTORY:
        return BadDirectory(
            f"cannot enter the working directory {spec.options.cwd!r}{user}: {os.strerror(failure.errno)}"
        )
    return host_error(failure.errno, f"the task cannot be started{user}")


def _as_user(spec: Spec) -> str:
    """Return " as user 'alice'", whose permissions it is about, or nothing if it is levityd's user."""
    if spec.run_as is None:
        return ""
    return f" as user {spec.run_as.name or f'uid:{spec.run_as.uid}'!r}"


def _exec_error(number: int, command: str, user: str) -> LevityError:
    if number == errno.EAGAIN:
        # execve(2): setresuid(2) went over RLIMIT_NPROC before.
        return HostError(f"the task cannot be started{user}: that user has too many processes (ulimit -u)")
    if number in (errno.ENOENT, errno.ENOTDIR):
        if "/" in command:
            return CommandNotFound(f"{command!r}: no such file, or the interpreter it names is missing")
        return CommandNotFound(f"{command!r}: command not found on the host")
    return NotExecutable(f"{command!r} cannot be executed{user}: {_WORDS.get(number) or os.strerror(number)}")


def host_error(number: int, what: str) -> LevityError:
    """Return the error for what the host refused, by errno."""
    if number == errno.ENOSPC:
        return NoSpace(f"{what}: no space left in levityd's state directory; make room and try again")
    if number == errno.EDQUOT:
        return NoSpace(f"{what}: disk quota exceeded in levityd's state directory; make room and try again")
    return HostError(f"{what}: {os.strerror(number)}")
