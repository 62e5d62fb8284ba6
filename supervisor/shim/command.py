"""What to execute, as the kernel takes it. Runs in: the task's own process, before execve(2). Owns: nothing."""

import errno
import os
import resource
import signal

from levity.protocol.text import text_to_bytes
from supervisor.hostos.descriptors import descriptor_limit_of_tasks
from supervisor.shim.run_as import User
from supervisor.spool.records import Spec

__all__ = ["Command", "Surroundings"]

_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
_DEFAULT_UMASK = 0o022


class Surroundings:
    """What is the same for every task: the boot; levityd's environment, home and OOM score; what its zygote ignores."""

    def __init__(self, boot_id: str, environment: dict[bytes, bytes], home: bytes, oom_score_adj: bytes) -> None:
        self.boot_id = boot_id
        self.environment = environment
        self.home = home
        self.oom_score_adj = oom_score_adj
        self.descriptor_limit = descriptor_limit_of_tasks()
        # Handlers need no care: execve(2) resets them.
        self.ignored_signals = [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]


class Command:
    """A command, its arguments, environment and directory; pre_exec.py says in which order its methods are called."""

    def __init__(self, spec: Spec, surroundings: Surroundings) -> None:
        self.argv = [text_to_bytes(word) for word in spec.options.argv]
        self._user = None if spec.run_as is None else User(spec.run_as)
        levityds = surroundings.environment
        self.environment = dict(levityds) if self._user is None else self._user.environment(levityds)
        self.environment.update({text_to_bytes(name): text_to_bytes(value) for name, value in spec.options.env.items()})
        self.environment[b"LEVITY_TASK_ID"] = spec.id.encode()
        self._directory = None if spec.options.cwd is None else text_to_bytes(spec.options.cwd)
        self._has_input = spec.options.stdin
        self._is_merged = spec.options.merged
        self._surroundings = surroundings
        self._home = surroundings.home if self._user is None else self._user.home

    def candidates(self) -> list[bytes]:
        """Return the paths to try in turn, as execvp(3) does with the task's own PATH."""
        name = self.argv[0]
        if not name:
            return []  # No file has that name; execvp(3) says so, too.
        if b"/" in name:
            return [name]
        path = self.environment.get(b"PATH", _DEFAULT_PATH)
        return [os.path.join(directory, name) for directory in path.split(b":")]

    def connect(self, stdin: int, stdout: int, stderr: int) -> None:
        """Make these pipes descriptors 0 to 2. Without input 0 stays /dev/null; merged output goes to `stdout`."""
        if self._has_input:
            os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stdout if self._is_merged else stderr, 2)

    def restore_defaults(self) -> None:
        """Undo what levity, Python or the caller of levityd changed and execve(2) would keep.

        Before the user changes: only root may lower the OOM score and raise limits.
        """
        for number in self._surroundings.ignored_signals:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.umask(_DEFAULT_UMASK)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._surroundings.descriptor_limit)
        try:
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, self._surroundings.oom_score_adj)
        except OSError:
            pass  # No /proc: the score was not changed either.

    def change_user(self) -> bool:
        """Become the user that the task runs as: the next steps have that user's rights. False if that is levityd's."""
        if self._user is None:
            return False
        self._user.become((0, 1, 2) if self._has_input else (1, 2))
        return True

    def enter(self) -> None:
        """Go to the home of the task's user, or / where that cannot be; from there to the directory of the spec."""
        try:
            os.chdir(self._home)
        except OSError:
            os.chdir("/")
        if self._directory is not None:
            os.chdir(self._directory)

    def execute(self) -> None:
        """Try each candidate; like a shell, "permission denied" on the way outweighs "not found" at its end."""
        failure = OSError(errno.ENOENT, "")
        for path in self.candidates():
            try:
                os.execve(path, self.argv, self.environment)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                    raise
                if error.errno == errno.EACCES:
                    failure = error
        raise failure
