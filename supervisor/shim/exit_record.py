"""Put together how a task ended, and store it. Runs in: shim. Owns: nothing."""

import os

from supervisor.shim.monitor import Monitor
from supervisor.shim.verdict import verdict
from supervisor.spool.files import insist, write_record
from supervisor.spool.layout import EXIT, OUTPUT_MODE
from supervisor.spool.records import ExitRecord

__all__ = ["exit_record", "store", "sync_spool"]


def exit_record(monitor: Monitor) -> ExitRecord:
    """Return how a task ended whose monitor has returned; afterwards nothing of it is left unreaped."""
    info, course, facts, writer = monitor.exit_info, monitor.course, monitor.facts(), monitor.writer
    assert info is not None
    _reap(monitor.leader)
    state, exit_code, signal, reason = verdict(
        info.si_code, info.si_status, signalled=course.signalled, killed=course.killed_leader, grace_s=facts.grace_s
    )
    if course.sealed:
        reason += "; output cut: a process outside the task's tree held its pipe open"
    return ExitRecord(
        state,
        exit_code,
        signal,
        reason,
        monitor.ended_ns,
        shim=facts,
        stdout_bytes=writer.ends[1],
        stderr_bytes=writer.ends[2],
        stored_bytes=writer.stored,
    )


def _reap(leader: int) -> None:
    os.waitpid(leader, 0)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def sync_spool(monitor: Monitor, record: ExitRecord) -> None:
    """Make the output durable; say so in the record where that fails."""
    try:
        monitor.writer.sync()
    except OSError as error:
        record.reason += f"; the output may not survive a power cut: {os.strerror(error.errno or 0)}"


def store(directory_fd: int, record: ExitRecord) -> None:
    """Write the exit record; when there is no room for it, wait: nobody else knows how the task ended."""
    insist(directory_fd, lambda: write_record(directory_fd, EXIT, record.to_json(), durable=True, mode=OUTPUT_MODE))
