"""The shim: watch over one task from before its start until its record is stored.

Runs in: shim, forked from the zygote. Owns: everything of its task. It needs no other process of levityd: it has no
pipe to one and no database, and all that it knows is on disk.
"""

from supervisor.shim.exit_record import exit_record, store, sync_spool
from supervisor.shim.spawn import LaunchError, start_failure
from supervisor.shim.start import ShimContext, detach, start, take, undo
from supervisor.shim.stdin_pump import discard_input
from supervisor.spool.layout import task_path
from supervisor.spool.start_failure import StartFailure

__all__ = ["watch"]


def watch(task_id: str, context: ShimContext) -> StartFailure | None:
    """Start the task and stay until it is over.

    None: the exit record is stored, or another shim has, or had, this task. Otherwise the command did not run, nothing
    of this shim is left in the directory, and the failure is returned.
    """
    detach(f"levityd: shim {task_id}")
    try:
        taken = take(task_path(task_id))
    except OSError as error:
        return start_failure(error)
    if taken is None:
        return None
    directory_fd = taken[0]
    try:
        monitor = start(task_id, taken, context)
    except (LaunchError, OSError) as error:
        undo(directory_fd)
        return start_failure(error)
    if monitor is not None:
        monitor.run()
        if monitor.takes_input:
            discard_input(directory_fd)
        record = exit_record(monitor)
        sync_spool(monitor, record)
        store(directory_fd, record)
    return None
