"""Send a command to a task's shim. Runs in: engine. Owns: nothing."""

import json
import os

from supervisor.spool.layout import CONTROL, task_path
from supervisor.spool.records import JsonObject

__all__ = ["send_command"]


def send_command(task_id: str, command: JsonObject) -> bool:
    """Write one line to the task's control FIFO; False when no shim listens there.

    A shim that is stopped has as much in its FIFO as that holds; one command more changes nothing then.
    """
    try:
        fd = os.open(f"{task_path(task_id)}/{CONTROL}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # ENXIO (fifo(7)), or the directory is gone.
        return False
    try:
        os.write(fd, json.dumps(command).encode() + b"\n")
    except BlockingIOError:
        pass
    except BrokenPipeError:
        return False
    finally:
        os.close(fd)
    return True
