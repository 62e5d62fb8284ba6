"""Fork and execute a task's command. Runs in: shim. Owns: nothing afterwards.

Between fork and execve(2) the child runs a straight line; what fails is told through a close-on-exec pipe.
"""

import errno
import os
import signal
from collections.abc import Callable

from levity.protocol.text import text_to_bytes
from supervisor.hostos.kernel import request_parent_death_signal
from supervisor.spool.records import JsonObject

__all__ = ["CHDIR_FLAG", "EXEC_FLAG", "LaunchError", "Program", "launch", "start_status"]

_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
_DEFAULT_UMASK = 0o022
# Signals with numbers 32 and 33 are glibc's own and cannot be set.
_RESETTABLE = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]

# An exit status has 8 bits. Errors of execve(2) and chdir(2) have numbers below 64; others are told without a flag.
CHDIR_FLAG = 0x40
EXEC_FLAG = 0x80
_NUMBER_MASK = 0x3F


class Stage:
    """Where the child is on its way to execve(2)."""

    HOST, CHDIR, EXEC = "host", "chdir", "exec"


class LaunchError(Exception):
    """The command could not be executed: `stage` is a Stage, `errno` what the kernel said."""

    def __init__(self, stage: str, number: int) -> None:
        super().__init__(f"{stage}: {os.strerror(number)}")
        self.stage = stage
        self.errno = number


def start_status(error: LaunchError | OSError) -> int:
    """Return the exit status by which a shim tells why its task did not run."""
    number = error.errno or errno.EIO
    if not isinstance(error, LaunchError) or error.stage == Stage.HOST or number > _NUMBER_MASK:
        return number & _NUMBER_MASK or errno.EIO
    return number | (CHDIR_FLAG if error.stage == Stage.CHDIR else EXEC_FLAG)


class Program:
    """What to execute, as the kernel takes it."""

    def __init__(self, spec: JsonObject, base_environment: dict[bytes, bytes], home: bytes) -> None:
        self.argv = [text_to_bytes(word) for word in spec["argv"]]
        self.environment = dict(base_environment)
        self.environment.update({text_to_bytes(name): text_to_bytes(value) for name, value in spec["env"].items()})
        self.environment[b"LEVITY_TASK_ID"] = spec["id"].encode()
        self.directory = home if spec["cwd"] is None else text_to_bytes(spec["cwd"])
        self.falls_back_to_root = spec["cwd"] is None

    def candidates(self) -> list[bytes]:
        """Return the paths to try in turn, as execvp(3) does with the task's own PATH."""
        name = self.argv[0]
        if b"/" in name or not name:
            return [name]
        path = self.environment.get(b"PATH", _DEFAULT_PATH)
        return [os.path.join(directory, name) for directory in path.split(b":")]


def launch(prepare: Callable[[], Program], stdout: int, stderr: int, oom_score_adj: bytes) -> int:
    """Fork, have the child call `prepare` and execute what it returns, in a process group of its own.

    Returns the child's pid once execve(2) succeeded; LaunchError if something failed. `prepare` runs in the child because
    its memory is gone with execve(2), while every page that a shim writes to stays its own for as long as the task lives.
    """
    read_end, write_end = os.pipe()
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(prepare, stdout, stderr, oom_score_adj, shim, write_end)
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
    prepare: Callable[[], Program], stdout: int, stderr: int, oom_score_adj: bytes, shim: int, report: int
) -> None:
    stage = Stage.HOST
    try:
        os.setpgid(0, 0)
        request_parent_death_signal(signal.SIGKILL)
        if os.getppid() != shim:
            return
        program = prepare()
        _restore_defaults(oom_score_adj)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        stage = Stage.CHDIR
        _enter(program)
        stage = Stage.EXEC
        _execute(program)
    except OSError as error:
        os.write(report, f"{stage}:{error.errno}".encode())
    except Exception:  # A bug of ours must not pass for a started command.
        os.write(report, f"{Stage.HOST}:{errno.EIO}".encode())


def _restore_defaults(oom_score_adj: bytes) -> None:
    """Undo what levity, Python or whoever started levityd changed and execve(2) would keep."""
    for number in _RESETTABLE:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(_DEFAULT_UMASK)
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(oom_score_adj)
    except OSError:
        pass  # No /proc: the score was not changed either.


def _enter(program: Program) -> None:
    try:
        os.chdir(program.directory)
    except OSError:
        if not program.falls_back_to_root:
            raise
        os.chdir("/")


def _execute(program: Program) -> None:
    """Try each candidate; like a shell, "permission denied" on the way outweighs "not found" at its end."""
    failure = OSError(errno.ENOENT, "")
    for path in program.candidates():
        try:
            os.execve(path, program.argv, program.environment)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise
            if error.errno == errno.EACCES:
                failure = error
    raise failure

