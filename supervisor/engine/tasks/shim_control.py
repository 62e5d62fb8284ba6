"""Send a command to a task's shim. Runs in: engine. Owns: nothing."""

import os

from supervisor.spool.commands import encode_command
from supervisor.spool.layout import CONTROL, task_path

__all__ = ["send_command"]


def send_command(task_id: str, version: int, verb: str, **values: object) -> bool:
    """Write a command to the task's control FIFO, in the form that its shim understands (`version`, of shim.json).

    False if no shim listens there, or it does not know the verb. A shim that is stopped has as much in its FIFO as that
    holds; one command more changes nothing then.
    """
    line = encode_command(version, verb, **values)
    if line is None:
        return False
    try:
        fd = os.open(f"{task_path(task_id)}/{CONTROL}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # ENXIO (fifo(7)), or the directory is gone.
        return False
    try:
        os.write(fd, line)
    except BlockingIOError:
        pass
    except BrokenPipeError:
        return False
    finally:
        os.close(fd)
    return True
