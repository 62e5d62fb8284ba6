"""What the arbiter's two children have in common. Runs in: engine, front-end. Owns: nothing.

The arbiter talks to each over a `control` connection. An end of file there means that the arbiter is dead: the child
ends, too, so that the next levityd finds the field clear.
"""

import signal
import time

from supervisor.hostos import titles
from supervisor.hostos.descriptors import close_all_but, raise_descriptor_limit
from supervisor.hostos.locks import lock_holder, open_lock, try_lock
from supervisor.settings import FRONT_END_LOCK_FILE, LOCK_FILE

__all__ = ["be_child", "show_front_end", "take_lock"]

_LOCK_WAIT_S = 5.0
# Only the arbiter is told to stop; whoever stops levityd from a terminal or a service manager signals all of them.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def be_child(role: str, name: str, kept: list[int]) -> None:
    """Become a child in its own right: title, signals, descriptors (of those above 2 only `kept` stay open)."""
    titles.set_title(f"levityd: {role}", name)
    signal.set_wakeup_fd(-1)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    close_all_but(kept)
    raise_descriptor_limit()


def take_lock(byte: int) -> str:
    """Take this process's byte of the lock file, for good; "" or, if somebody keeps it, who that is."""
    fd = open_lock(LOCK_FILE)
    give_up_at = time.monotonic() + _LOCK_WAIT_S
    while not try_lock(fd, byte):
        # The process before this one was killed and is on its way out; there is nothing to be woken by.
        if time.monotonic() > give_up_at:
            return (
                f"process {lock_holder(fd, byte)} of an earlier levityd is still there; end it and start levityd again"
            )
        time.sleep(0.01)
    return ""


def show_front_end() -> None:
    """Lock the front-end's own file, so that the next levityd sees that this process lives; for good.

    Whoever has it already is no reason not to serve: our arbiter saw the front-end before this one end, so that is a
    process which somebody who had taken it over has left.
    """
    try_lock(open_lock(FRONT_END_LOCK_FILE))
