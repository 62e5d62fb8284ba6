"""Put together how a task ended, and store it. Runs in: shim. Owns: nothing."""

import os
import signal

from levity.states import State
from supervisor.shim.monitor import Monitor
from supervisor.shim.reaper import reap_rest
from supervisor.spool.files import insist, write_record
from supervisor.spool.layout import EXIT, OUTPUT_MODE
from supervisor.spool.records import ExitRecord

__all__ = ["exit_record", "signal_name", "store", "sync_spool", "verdict"]


def exit_record(monitor: Monitor) -> ExitRecord:
    """Return how the task ended, once its monitor has returned, and reap all that is left of the task."""
    info, end, facts, writer = monitor.exit_info, monitor.termination, monitor.facts(), monitor.output.writer
    assert info is not None
    reap_rest(monitor.leader)
    state, exit_code, name, reason = verdict(
        info.si_code, info.si_status, signalled=end.was_signalled, killed=end.killed_leader, grace_s=facts.grace_s
    )
    if end.was_cut:
        reason += "; output cut: a process outside the task's tree held its pipe open"
    return ExitRecord(
        state,
        exit_code,
        name,
        reason,
        monitor.ended_ns,
        shim=facts,
        stdout_bytes=writer.ends[1],
        stderr_bytes=writer.ends[2],
        stored_bytes=writer.stored,
    )


def verdict(
    code: int, status: int, *, signalled: bool, killed: bool, grace_s: float
) -> tuple[State, int, str | None, str]:
    """Return state, exit_code (0-255; 128+N for signal N), signal and reason of a task that is over. Pure.

    `code` and `status` are si_code and si_status of waitid(2); `signalled`: levity sent SIGTERM; `killed`: levity sent
    SIGKILL.
    """
    if code == os.CLD_EXITED:
        reason = f"exited with code {status}" + (" after SIGTERM" if signalled else "")
        return State.FINISHED, status, None, reason
    name = signal_name(status)
    brutal = killed and status == signal.SIGKILL
    if brutal:
        reason = f"outlived the grace period of {grace_s:g} s, ended by SIGKILL"
    else:
        reason = f"ended by {name}" + (" and dumped core" if code == os.CLD_DUMPED else "")
    state = State.BRUTALLY_KILLED if brutal else State.FINISHED
    return state, 128 + status, name, reason


def signal_name(number: int) -> str:
    """Return `SIGTERM` for 15; a real-time signal without a name of its own is counted from SIGRTMIN."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def sync_spool(monitor: Monitor, record: ExitRecord) -> None:
    """Make the output durable; say so in the record where that fails."""
    try:
        monitor.output.writer.sync()
    except OSError as error:
        record.reason += f"; the output may not survive a power cut: {os.strerror(error.errno or 0)}"


def store(directory_fd: int, record: ExitRecord) -> None:
    """Write the exit record; when there is no room for it, wait: only the shim knows how the task ended."""
    insist(directory_fd, lambda: write_record(directory_fd, EXIT, record.to_json(), durable=True, mode=OUTPUT_MODE))
