"""The shim: watch over one task from before its start until its record is stored. Runs in: shim, forked from the zygote.

Owns: everything of its task. Depends on nothing above it: no pipe to levityd, no database; what it knows is on disk.
"""

import os
import signal
import socket
import time

from supervisor.hostos import titles
from supervisor.hostos.kernel import become_subreaper
from supervisor.hostos.locks import try_lock
from supervisor.hostos.procfs import start_ticks
from supervisor.shim.control import ControlFifo
from supervisor.shim.hint import Hint
from supervisor.shim.launch import LaunchError, Program, launch, start_status
from supervisor.shim.monitor import Monitor
from supervisor.shim.verdict import verdict
from supervisor.spool.files import load_record, sync_directory, write_record
from supervisor.spool.layout import EXIT, LOCK, SHIM, SPEC, STARTED, TASKS, task_path
from supervisor.spool.records import JsonObject
from supervisor.spool.writer import SpoolWriter

__all__ = ["Surroundings", "watch"]

# A disk that is full stays so for a while, and the record is small: it takes the first free block.
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 1.0


class Surroundings:
    """What every shim needs and only has to be found out or made once, by the zygote."""

    def __init__(
        self, environment: dict[bytes, bytes], home: bytes, boot_id: str, oom_score_adj: bytes, hints: socket.socket
    ) -> None:
        self.environment = environment
        self.home = home
        self.boot_id = boot_id
        self.oom_score_adj = oom_score_adj
        self.hints = hints


def watch(task_id: str, surroundings: Surroundings) -> int:
    """Start the task and stay until it is over; return what the shim shall exit with.

    0: the exit record is stored, or another shim has, or had, this task. Otherwise the command did not run and nothing of
    this shim is left in the directory: an errno, plus CHDIR_FLAG or EXEC_FLAG if a call of the task's own failed.
    """
    titles.set_title(f"levityd: shim {task_id}", "levity-shim")
    os.setsid()
    become_subreaper()
    directory_fd = os.open(task_path(task_id), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    lock_fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    if not try_lock(lock_fd) or _was_watched(directory_fd):
        return 0
    try:
        monitor = _start(task_id, directory_fd, surroundings)
    except (LaunchError, OSError) as error:
        _undo(directory_fd)
        return start_status(error)
    monitor.run()
    _store_exit(directory_fd, _exit_record(monitor))
    return 0


def _was_watched(directory_fd: int) -> bool:
    """Whether an earlier shim wrote its name here: the task may have run then, and must not run a second time."""
    return any(os.access(name, os.F_OK, dir_fd=directory_fd) for name in (SHIM, EXIT))


def _start(task_id: str, directory_fd: int, surroundings: Surroundings) -> Monitor:
    """Start the task and return its monitor; LaunchError or OSError if it does not run."""
    control = ControlFifo(directory_fd)
    writer = SpoolWriter(directory_fd)
    wakeup_fd = _wake_on_child()
    stdout_read, stdout_write = os.pipe()
    stderr_read, stderr_write = os.pipe()
    hint = Hint(task_id, surroundings.hints)
    # Made before the task runs: from then on nothing may fail any more.
    monitor = Monitor(directory_fd, {stdout_read: 1, stderr_read: 2}, writer, control, wakeup_fd, hint)
    watcher = os.getpid()

    def prepare() -> Program:
        return _prepare(directory_fd, watcher, surroundings)

    monitor.leader = launch(prepare, stdout_write, stderr_write, surroundings.oom_score_adj)
    os.close(stdout_write)
    os.close(stderr_write)
    os.rename(STARTED, SHIM, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    hint.send(time.monotonic())
    return monitor


def _prepare(directory_fd: int, watcher: int, surroundings: Surroundings) -> Program:
    """Make the accepted task durable, note who watches it, and return what to execute. Runs in the task's process.

    Everything here is on the disk before the task runs: the id will be told to the client next. The record that says
    "started" is written too, and takes effect by the shim's renaming it once the command is executed.
    """
    spec = load_record(directory_fd, SPEC)
    assert spec is not None, "the engine writes the spec before it asks for a shim"
    program = Program(spec, surroundings.environment, surroundings.home)
    spec_fd = os.open(SPEC, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    os.fsync(spec_fd)
    facts: JsonObject = {"pid": watcher, "start_ticks": start_ticks(watcher), "boot_id": surroundings.boot_id}
    facts["grace_s"] = spec["grace_s"]
    write_record(directory_fd, SHIM, facts, durable=True)
    sync_directory(TASKS)
    facts.update(task_pid=os.getpid(), started_ns=time.time_ns())
    write_record(directory_fd, STARTED, facts, durable=False)
    return program


def _undo(directory_fd: int) -> None:
    """Remove what `_start` made, SHIM last: without it, the task has never run and may be tried again."""
    for name in sorted(os.listdir(directory_fd), key=lambda name: name == SHIM):
        if name not in (SPEC, LOCK):
            os.unlink(name, dir_fd=directory_fd)


def _wake_on_child() -> int:
    """Return a descriptor that becomes readable whenever a child ends, stops or is adopted as a zombie."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return read_end


def _exit_record(monitor: Monitor) -> JsonObject:
    info, course, writer, facts = monitor.exit_info, monitor.course, monitor.writer, monitor.facts()
    assert info is not None
    os.waitpid(monitor.leader, 0)
    _reap_rest()
    grace_s = facts["grace_s"]
    record = verdict(
        info.si_code, info.si_status, signalled=course.signalled, killed=course.killed_leader, grace_s=grace_s
    )
    if course.sealed:
        record["reason"] += "; output cut: a process outside the task's tree held its pipe open"
    record.update({key: facts.get(key) for key in ("pid", "task_pid", "started_ns", "signalled_ns", "grace_s")})
    record["ended_ns"] = monitor.ended_ns
    record["stdout_bytes"], record["stderr_bytes"] = writer.ends[1], writer.ends[2]
    try:
        writer.sync()
    except OSError as error:
        record["reason"] += f"; the output may not survive a power cut: {os.strerror(error.errno or 0)}"
    return record


def _reap_rest() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _store_exit(directory_fd: int, record: JsonObject) -> None:
    """Write the exit record; when there is no room for it, wait: nobody else knows how the task ended."""
    delay_s = _FIRST_RETRY_S
    while True:
        try:
            write_record(directory_fd, EXIT, record, durable=True)
        except OSError:
            time.sleep(delay_s)
            delay_s = min(delay_s * 2, _LAST_RETRY_S)
        else:
            return
