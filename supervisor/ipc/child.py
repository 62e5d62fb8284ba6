"""The first steps that engine and front-end have in common. Runs in: engine, front-end. Owns: its locks, for good.

The arbiter talks to each over a `control` connection. An end of file there means that the arbiter is dead: then the
child ends, too, so that the next levityd can start.
"""

import signal
import time
from collections.abc import Callable

from supervisor.hostos import titles
from supervisor.hostos.descriptors import close_all_but, raise_descriptor_limit
from supervisor.hostos.locks import lock_holder, open_lock, try_lock
from supervisor.settings import FRONT_END_LOCK_FILE, LOCK_FILE

__all__ = ["be_child", "show_front_end", "take_lock"]

_LOCK_WAIT_S = 5.0
# The arbiter alone acts on these. A terminal and a service manager send them to its children as well.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def be_child(role: str, name: str, kept: list[int]) -> None:
    """Set this forked process up: its title, signals and descriptors; of those above 2 only `kept` stay open."""
    titles.set_title(f"levityd: {role}", name)
    signal.set_wakeup_fd(-1)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    close_all_but(kept)
    raise_descriptor_limit()


def take_lock(byte: int, now: Callable[[], float] = time.monotonic) -> str:
    """Lock this process's byte of the lock file, for good; return "" or, if another process keeps it, a message."""
    fd = open_lock(LOCK_FILE)
    give_up_at = now() + _LOCK_WAIT_S
    while not try_lock(fd, byte):
        # The engine before this one was killed and is still ending; nothing tells when it has.
        if now() > give_up_at:
            return (
                f"process {lock_holder(fd, byte)} of an earlier levityd is still there; end it and start levityd again"
            )
        time.sleep(0.01)
    return ""


def show_front_end() -> None:
    """Lock the front-end's own file, so that the next levityd sees that this process lives; for good.

    If the lock is held, serve anyway: the arbiter has reaped the last front-end, so the holder can only be a process
    that an attacker left behind.
    """
    try_lock(open_lock(FRONT_END_LOCK_FILE))
