"""Put together how a task ended, and store it. Runs in: shim. Owns: nothing."""

import os

from supervisor.shim.monitor import Monitor
from supervisor.shim.verdict import verdict
from supervisor.spool.files import insist, write_record
from supervisor.spool.layout import EXIT, OUTPUT_MODE
from supervisor.spool.records import JsonObject

__all__ = ["exit_record", "store", "sync_spool"]


def exit_record(monitor: Monitor) -> JsonObject:
    """Return how a task ended whose monitor has returned; afterwards nothing of it is left unreaped."""
    info, course, facts = monitor.exit_info, monitor.course, monitor.facts()
    assert info is not None
    _reap(monitor.leader)
    record = verdict(
        info.si_code, info.si_status, signalled=course.signalled, killed=course.killed_leader, grace_s=facts["grace_s"]
    )
    if course.sealed:
        record["reason"] += "; output cut: a process outside the task's tree held its pipe open"
    for key in ("pid", "task_pid", "started_ns", "signalled_ns", "grace_s"):
        record[key] = facts.get(key)
    record["ended_ns"] = monitor.ended_ns
    record["stdout_bytes"], record["stderr_bytes"] = monitor.writer.ends[1], monitor.writer.ends[2]
    record["stored_bytes"] = monitor.writer.stored
    return record


def _reap(leader: int) -> None:
    os.waitpid(leader, 0)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def sync_spool(monitor: Monitor, record: JsonObject) -> None:
    """Make the output durable; say so in the record where that fails."""
    try:
        monitor.writer.sync()
    except OSError as error:
        record["reason"] += f"; the output may not survive a power cut: {os.strerror(error.errno or 0)}"


def store(directory_fd: int, record: JsonObject) -> None:
    """Write the exit record; when there is no room for it, wait: nobody else knows how the task ended."""
    insist(directory_fd, lambda: write_record(directory_fd, EXIT, record, durable=True, mode=OUTPUT_MODE))
