"""The zygote: fork a shim for each id it is told. Runs in: zygote, exec'd by the engine with `python -I -S`.

Owns: its end of the engine's socket (descriptor 0). Never opens the database, a listening socket or a pipe to the
front-end, so no shim can inherit one. The zygote ends when the engine does; its shims go on.

The packets between engine and zygote are in supervisor/spool/zygote_messages.py. A shim whose task did not run says why
in one datagram to the zygote before it leaves: an exit status has no room for it, and a full disk takes no record.
"""

import _thread
import errno
import gc
import os
import select
import signal
import socket
from functools import partial

from supervisor.hostos import titles
from supervisor.hostos.descriptors import close_all_but, drain, signal_pipe
from supervisor.hostos.procfs import initial_environment, living_children
from supervisor.shim.command import Surroundings
from supervisor.shim.hint import hint_socket
from supervisor.shim.main import watch
from supervisor.shim.pre_exec import PreExec
from supervisor.shim.start import ShimContext
from supervisor.shim.termination import DRAIN_S
from supervisor.shim.warm_up import warm_up
from supervisor.spool.start_failure import FORK, StartFailure
from supervisor.spool.zygote_messages import PACKET_LIMIT, Gone, gone_packet, parse_fork

__all__ = ["main"]

# Lower than any task's: when memory is short, the kernel shall kill the task and not the shim, which records that.
_OOM_SCORE_ADJ = b"-900"
_BROKEN = errno.EIO
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(drain_s: float = DRAIN_S, verbs: int = 0) -> None:
    """Serve the engine until it closes its end of the socket; `drain_s` as in supervisor/shim/termination.py.

    `verbs` is the version of messages that the engine understands.
    """
    engine = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    # A service manager that stops levityd signals the whole group: it does not mean tasks and their shims.
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # It does nothing, but without a handler Python writes to no wakeup descriptor, in the zygote and in the shims.
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    context = ShimContext(partial(PreExec, _surroundings()), hint_socket(), drain_s)
    gc.disable()
    warm_up(context)
    close_all_but([engine, context.hints.fileno()])
    titles.set_title("levityd: zygote", "levity-zygote")
    zygote = _Zygote(engine, context, verbs)
    _kept = _crowd_locks()
    gc.freeze()  # Shims share these objects' memory for as long as no process writes to their headers.
    zygote.serve()
    os._exit(0)


def _crowd_locks() -> list[_thread.LockType]:
    """Leave free blocks for locks side by side, and return the locks that must stay alive around them.

    Python makes some locks anew in each forked child. Scattered over the heap, they dirty a page each.
    """
    locks = [_thread.allocate_lock() for _ in range(64)]
    return locks[:-8]


def _surroundings() -> Surroundings:
    from levity.channel_binding import boot_id  # After the shim's modules: before them it costs each shim 10 KiB.

    environment = {name: value for name, value in initial_environment().items() if not name.startswith(b"LEVITY_")}
    oom_score_adj = b"0"
    try:
        with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
            oom_score_adj = file.read().strip()
            file.write(_OOM_SCORE_ADJ)
    except OSError:
        pass  # Only root may lower it.
    home = os.fsencode(os.path.expanduser("~"))
    return Surroundings(boot_id(), environment, home, oom_score_adj)


class _Zygote:
    def __init__(self, engine: int, context: ShimContext, verbs: int) -> None:
        self._engine = engine
        self._verbs = verbs
        self._context = context
        self._shims: dict[int, str] = {}
        # Where shims say why their task did not run, and what they have said. Read as shims are reaped: the kernel
        # keeps a few datagrams, and a shim that finds no room waits until one before it has left.
        self._reports, self._report_to = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reports.setblocking(False)
        self._failures: dict[str, StartFailure] = {}
        self._wakeup_read, self._wakeup_write = signal_pipe()

    def serve(self) -> None:
        poller = select.poll()
        poller.register(self._engine, select.POLLIN)
        poller.register(self._wakeup_read, select.POLLIN)
        while True:
            for fd, _events in poller.poll():
                if fd == self._wakeup_read:
                    self._reap()
                elif not self._take_request():
                    return

    def _take_request(self) -> bool:
        try:
            packet = os.read(self._engine, PACKET_LIMIT)
        except ConnectionError:
            return False
        if not packet:
            return False
        if task_id := parse_fork(packet):
            self._fork(task_id)
        return True

    def _fork(self, task_id: str) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._send(Gone(task_id, 1, StartFailure(FORK, error.errno or errno.EAGAIN)))
            return
        if pid == 0:
            for fd in (self._engine, self._wakeup_read, self._wakeup_write, self._reports.fileno()):
                os.close(fd)
            _be_shim(task_id, self._context, self._report_to.fileno())
        self._shims[pid] = task_id

    def _reap(self) -> None:
        orphans = False
        drain(self._wakeup_read)
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                task_id, status = self._shims.pop(ended[0], None), os.waitstatus_to_exitcode(ended[1])
                orphans |= task_id is None or status < 0
                if task_id:
                    if status:
                        self._take_reports()  # Its own is there by now.
                    self._send(Gone(task_id, status, self._failures.pop(task_id, None)))
        except ChildProcessError:
            pass
        if orphans:
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Kill what a killed shim has left of its task: the engine does not find a process without session and mark.

        A living shim is the subreaper of its own task, so only a dead shim's orphans become children of the zygote. No
        other process gets their pids until they are reaped here. Their own orphans come here in turn.
        """
        for pid in living_children(os.getpid()):
            if pid not in self._shims:
                os.kill(pid, signal.SIGKILL)

    def _take_reports(self) -> None:
        try:
            while True:
                task_id, _space, text = self._reports.recv(PACKET_LIMIT).decode("ascii", "replace").partition(" ")
                if (failure := StartFailure.from_text(text)) is not None:
                    self._failures[task_id] = failure
        except BlockingIOError:
            pass

    def _send(self, gone: Gone) -> None:
        try:
            os.write(self._engine, gone_packet(gone, self._verbs))
        except OSError:
            pass  # The engine is gone; the next packet from it, an end of file, says so.


def _be_shim(task_id: str, context: ShimContext, report_to: int) -> None:
    """The child's side of the fork: never returns."""
    status = _BROKEN
    try:
        failure = watch(task_id, context)
        if failure is not None:
            _report(report_to, f"{task_id} {failure.to_text()}")
        status = 0 if failure is None else 1
    except BaseException as error:  # noqa: BLE001 - the outermost boundary: a shim has no caller to tell
        _leave_trace(task_id, error)
    finally:
        os._exit(status)


def _report(report_to: int, text: str) -> None:
    try:
        os.write(report_to, text.encode("ascii"))
    except OSError:
        pass  # The zygote is gone, and the engine has the task started again by the next one.


def _leave_trace(task_id: str, error: BaseException) -> None:
    """Append to the state directory's crash log: a bug of levity, or a host that refuses everything."""
    import traceback  # Here, so that it costs other shims no memory.

    try:
        with open("shim-crash.log", "a") as file:
            print(f"shim of task {task_id}:", file=file)
            traceback.print_exception(error, file=file)
    except OSError:
        pass
