"""The row of steps before execve(2): its names, and which of them fails for which reason. In a process of its own."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.hostos.locks import try_lock
from supervisor.shim.command import Surroundings
from supervisor.shim.pre_exec import STEPS, PreExec
from supervisor.shim.spawn import LaunchError, launch
from supervisor.spool.files import load_record, write_record
from supervisor.spool.layout import LOCK, SHIM, SPEC, STARTED, TASKS, WATCH_BYTE
from supervisor.spool.records import JsonObject
from supervisor.spool.start_failure import HOST, StartFailure

SPECIFICATION: JsonObject = {"id": "id", "argv": ["/bin/true"], "cwd": None, "env": {}, "grace_s": 5.0}


def test_the_names() -> None:
    """An error has the name of its step, so they are not changed lightly."""
    names = [name for name, _step in STEPS]
    assert names == ["group", "lock", "note", "sync", "connect", "defaults", "user", "directory", "exec"]


class Task:
    """A task's directory as its shim has it, and the pipes."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / TASKS / "id"
        self.path.mkdir(parents=True)
        self.directory_fd = os.open(self.path, os.O_RDONLY)
        self.lock_fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT)
        assert try_lock(self.lock_fd, WATCH_BYTE)
        self.pipes = (*os.pipe(), *os.pipe())
        self.path_fd = os.open(directory, os.O_PATH)  # fchown(2) takes none of these.
        self.streams = (-1, self.pipes[1], self.pipes[3])
        self.surroundings = Surroundings("boot", {b"A": b"1"}, b"/", b"0")
        self.shim = os.getpid()
        self.write()

    def write(self, **spec: object) -> None:
        write_record(self.directory_fd, SPEC, SPECIFICATION | spec, durable=False)

    def pre_exec(self, directory_fd: int, streams: tuple[int, int, int], _shim: int) -> PreExec:
        return PreExec(self.surroundings, directory_fd, streams, self.shim)

    def launch(self) -> int:
        return launch(self.pre_exec, self.directory_fd, *self.streams)

    def failing_step(self) -> tuple[str, int]:
        """Go through the steps in a child; return which one failed and why: an errno, -1 for another error."""
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            current = ""
            try:
                made = self.pre_exec(self.directory_fd, self.streams, self.shim)
                for name, step in STEPS:
                    current = name
                    step(made)
            except OSError as error:
                os.write(write_end, f"{current} {error.errno}".encode())
            except (AssertionError, ValueError):
                os.write(write_end, f"{current} -1".encode())
            finally:
                os._exit(127)
        os.close(write_end)
        told = os.read(read_end, 100).decode()
        os.close(read_end)
        os.waitpid(pid, 0)
        name, _space, number = told.partition(" ")
        return name, int(number or 0)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    monkeypatch.chdir(tmp_path)
    found = Task(tmp_path)
    yield found
    for fd in (found.directory_fd, found.lock_fd, found.path_fd, *found.pipes):
        os.close(fd)


def no_lock(task: Task) -> None:
    (task.path / LOCK).unlink()


def no_spec(task: Task) -> None:
    (task.path / SPEC).unlink()


def no_place(task: Task) -> None:
    (task.path / f"{SHIM}.tmp").mkdir()


def no_tasks(_task: Task) -> None:
    os.chdir("/")


def no_pipe(task: Task) -> None:
    task.streams = (-1, 1000, 1000)


def no_such_limit(task: Task) -> None:
    task.surroundings.descriptor_limit = (1 << 40, 1 << 40)


def no_such_user(task: Task) -> None:
    task.write(run_as={"uid": 2**32 - 1, "gid": 0, "groups": [], "home": "/", "name": "", "shell": ""})


def no_owner(task: Task) -> None:
    user = {"uid": 54321, "gid": 54321, "groups": [], "home": "/", "name": "", "shell": ""}
    task.write(run_as=user)
    task.streams = (-1, task.path_fd, task.pipes[3])


def no_directory(task: Task) -> None:
    task.write(cwd="/nowhere")


def no_command(task: Task) -> None:
    task.write(argv=["/nowhere"])


FAULTS = [
    pytest.param(no_lock, "lock", errno.ENOENT, id="no lock"),
    pytest.param(no_spec, "note", errno.EINVAL, id="no spec"),
    pytest.param(no_place, "note", errno.EISDIR, id="no place for the record"),
    pytest.param(no_such_user, "note", errno.EINVAL, id="a user that is none"),
    pytest.param(no_tasks, "sync", errno.ENOENT, id="no state directory"),
    pytest.param(no_pipe, "connect", errno.EBADF, id="no pipe"),
    pytest.param(no_such_limit, "defaults", -1, id="a limit that cannot be"),
    pytest.param(no_owner, "user", errno.EBADF, id="a pipe that cannot be given away"),
    pytest.param(no_directory, "directory", errno.ENOENT, id="no directory"),
    pytest.param(no_command, "exec", errno.ENOENT, id="no command"),
]


@pytest.mark.parametrize(("fault", "name", "number"), FAULTS)
def test_each_step_fails_by_its_name(task: Task, fault: Callable[[Task], None], name: str, number: int) -> None:
    fault(task)
    assert task.failing_step() == (name, number)


@pytest.mark.parametrize(("fault", "name", "number"), FAULTS)
def test_a_shim_hears_of_each_failure(task: Task, fault: Callable[[Task], None], name: str, number: int) -> None:
    fault(task)
    with pytest.raises(LaunchError) as caught:
        task.launch()
    assert caught.value.failure == StartFailure(HOST if number < 0 else name, errno.EIO if number < 0 else number)


def test_a_task_that_is_executed_has_been_noted(task: Task) -> None:
    pid = task.launch()
    os.waitpid(pid, 0)
    watched, started = load_record(task.directory_fd, SHIM), load_record(task.directory_fd, STARTED)
    assert watched is not None
    assert started is not None
    assert watched.items() <= started.items()
    assert (watched["pid"], watched["boot_id"]) == (task.shim, "boot")
    assert started["task_pid"] == pid
    assert "task_pid" not in watched


def test_a_child_whose_shim_is_gone_ends_silently(task: Task) -> None:
    """Its shim was killed meanwhile: the kernel gave the child to another parent."""
    task.shim = 1
    assert task.failing_step() == ("", 0)
    assert load_record(task.directory_fd, SHIM) is None


def test_a_child_whose_shim_lost_the_task_ends_silently(task: Task) -> None:
    os.close(os.open(task.path / LOCK, os.O_RDWR))  # Closing any descriptor of the file unlocks it.
    assert task.failing_step() == ("", 0)
    assert load_record(task.directory_fd, SHIM) is None
