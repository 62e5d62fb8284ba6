"""Have the zygote fork shims. Runs in: engine. Owns: the zygote process and its socket.

A zygote that dies is replaced at once. The caller decides what it asks the new one for again.
"""

import os
import selectors
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

from supervisor.engine.loop import Loop
from supervisor.log import log
from supervisor.spool.zygote_messages import PACKET_LIMIT, VERBS, Gone, fork_packet, parse_gone

__all__ = ["ShimSpawner"]

# Found by the interpreter without site: the folders that hold the packages levity and supervisor.
_BOOT = "import sys; sys.path[:0] = {roots!r}; from supervisor.shim.zygote import main; main(verbs={verbs})"
# Room for a title: "levityd: shim " and an id.
_TITLE_ROOM = " " * 64
_FIRST_RESTART_S, _LAST_RESTART_S = 0.01, 1.0


class ShimSpawner:
    """Asks for shims. `on_gone(gone)`: a shim has left. `on_restart()`: requests may have been lost.

    `shared`: the group of a task's directory may read its output (supervisor/engine/storage/task_directory.py).
    """

    def __init__(
        self, loop: Loop, on_gone: Callable[[Gone], None], on_restart: Callable[[], None], *, shared: bool = False
    ) -> None:
        self._loop = loop
        self._umask = 0o027 if shared else 0o077
        self._on_gone = on_gone
        self._on_restart = on_restart
        self._outbox: deque[bytes] = deque()
        self._restart_s = _FIRST_RESTART_S
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._spawn()

    def __repr__(self) -> str:
        return f"<ShimSpawner zygote {self._process and self._process.pid}, {len(self._outbox)} asked>"

    def ask(self, task_id: str) -> None:
        """Ask for a shim for this task."""
        self._outbox.append(fork_packet(task_id))
        self._flush()

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-S", "-c", _BOOT.format(roots=_package_roots(), verbs=VERBS) + _TITLE_ROOM]
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), umask=self._umask)
            undo.pop_all()
        ours.setblocking(False)
        self._socket = ours
        self._loop.watch(ours.fileno(), self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ:
            self._receive()

    def _receive(self) -> None:
        while self._socket is not None:
            try:
                packet = self._socket.recv(PACKET_LIMIT)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lose()
                return
            self._restart_s = _FIRST_RESTART_S
            if (gone := parse_gone(packet)) is not None:
                self._on_gone(gone)

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            while self._outbox:
                self._socket.send(self._outbox[0])
                self._outbox.popleft()
        except BlockingIOError:
            pass
        except OSError:
            return  # The end of file that follows tells.
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)
        self._loop.watch(self._socket.fileno(), self._ready, wanted)

    def _lose(self) -> None:
        assert self._socket is not None
        assert self._process is not None
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self._process.kill()  # It closed its end, so it is going or broken.
        self._process.wait()
        self._outbox.clear()
        self._loop.later(self._restart_s, self._restart)
        self._restart_s = min(self._restart_s * 2, _LAST_RESTART_S)

    def _restart(self) -> None:
        self._outbox.clear()  # Asked for while there was no zygote; `on_restart` asks for all of it again.
        try:
            self._spawn()
        except OSError as error:
            # Out of processes, memory or descriptors: perhaps because of a task, so it may pass.
            log(f"levityd: the zygote cannot be started now: {error.strerror}")
            self._loop.later(_LAST_RESTART_S, self._restart)
        else:
            self._on_restart()


def _package_roots() -> list[str]:
    import levity
    import supervisor

    roots = [os.path.dirname(path) for package in (levity, supervisor) for path in package.__path__]
    return list(dict.fromkeys(roots))
