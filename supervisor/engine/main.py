"""The engine process.

Runs in: engine, forked by the arbiter. Owns: the loop, the registry, the zygote, the hint socket.
"""

import os
import socket
from multiprocessing.connection import Connection

from levity.errors import LevityError
from supervisor.engine.access.audit_log import Audit
from supervisor.engine.access.authenticator import Authenticator
from supervisor.engine.access.tickets import ticket_key
from supervisor.engine.frontend_channel import FrontendChannel
from supervisor.engine.loop import Loop, Timer
from supervisor.engine.operations.context import Context
from supervisor.engine.operations.dispatch import Operations
from supervisor.engine.operations.frontend import FrontendOperations
from supervisor.engine.operations.request import EngineRequest
from supervisor.engine.storage.rebuild import live_specs, open_registry, quarantine_registry
from supervisor.engine.storage.registry import NewerRegistryError, Registry, RegistryCorruptError
from supervisor.engine.storage.retention import Disk, Limits, Retention
from supervisor.engine.tasks.lifecycle import Tasks
from supervisor.engine.tasks.spawner import ShimSpawner
from supervisor.ipc.child import be_child, take_lock
from supervisor.ipc.control_channel import ControlChannel, Message
from supervisor.log import log
from supervisor.security.tokens import TokenStore
from supervisor.settings import LockByte, Settings
from supervisor.spool.layout import ENGINE_SOCKET, is_task_id

__all__ = ["run_engine"]

# One transaction for all that happens within this time, and for both ends of a short task. An engine that is killed
# meanwhile loses nothing: the next one finds it in the directories.
_COMMIT_DELAY_S = 0.05
_COMMIT_RETRY_S = 1.0
# For another program's lock, when there will be no later commit. At other times clients would wait meanwhile.
_LAST_COMMIT_WAIT_S = 2.0
_HINTS_A_TURN = 64


def run_engine(connection: Connection, pipe: Connection, settings: Settings) -> None:
    """Be the engine until the arbiter says stop or is gone. Never returns: the process ends here."""
    be_child("engine", "levity-engine", [connection.fileno(), pipe.fileno()])
    control = ControlChannel(connection)
    status = 1
    try:
        if refusal := take_lock(LockByte.ENGINE):
            control.send("fatal", reason=refusal)
        else:
            _Engine(control, pipe, settings, open_registry()).run()
        status = 0
    except NewerRegistryError as error:
        reason = f"registry.db was written by a newer levity ({error}); upgrade levity, or move the file away"
        control.send("fatal", reason=reason)
    except RegistryCorruptError as error:
        quarantine_registry(error)  # The arbiter starts an engine that makes it anew.
    # The outermost boundary: say what happened in one line; the arbiter starts a new engine.
    except Exception as error:  # noqa: BLE001
        _say_bug(error)
    finally:
        os._exit(status)


class _Engine:
    def __init__(self, control: ControlChannel, pipe: Connection, settings: Settings, registry: Registry) -> None:
        self._control = control
        self._registry = registry
        self._loop = Loop()
        self._hints = _hint_socket()
        access, keeping = settings.access, settings.keeping
        spool_gid = access.frontend_ids[1] if access.frontend_ids else None
        self._tasks = Tasks(self._loop, registry, self._ask, self._on_stored, spool_gid)
        limits = Limits.of(keeping, Disk.now())
        self._retention = Retention(self._loop, registry, limits, lambda: self._tasks.is_out_of_space)
        authenticator = Authenticator(access, str(settings.address), TokenStore(), ticket_key())
        self._audit = audit = Audit()
        context = Context(
            self._loop,
            self._tasks,
            registry,
            authenticator,
            audit,
            state_dir=settings.state_dir,
            log_cap=keeping.log_cap,
            limits=limits,
        )
        self._operations = Operations(context)
        self._frontend_operations = FrontendOperations(
            authenticator, audit, spool_gid, self._operations.find, self._operations.unwait
        )
        self._spawner = ShimSpawner(
            self._loop, self._tasks.shim_gone, self._tasks.ask_again, shared=spool_gid is not None
        )
        self._commit_timer: Timer | None = None
        self._channel = self._open_channel(os.dup(pipe.fileno()))
        pipe.close()

    def run(self) -> None:
        self._loop.watch(self._control.fileno(), self._on_control)
        self._loop.watch(self._hints.fileno(), self._on_hints)
        for spec in live_specs(self._registry):
            self._tasks.adopt(spec)
        self._retention.check_soon()
        self._control.send("ready")
        self._loop.run(self._plan_commit)
        self._registry.commit(_LAST_COMMIT_WAIT_S)
        self._audit.close()
        self._control.send("stopped", live=len(self._tasks.live))

    def _ask(self, task_id: str) -> None:
        self._spawner.ask(task_id)

    def _on_stored(self, urgent: bool) -> None:
        self._retention.check_soon(urgent)

    def _open_channel(self, fd: int) -> FrontendChannel:
        # Nothing to do when it is lost: the arbiter sends an end of a new one.
        return FrontendChannel(self._loop, fd, self._on_request, lambda _channel: None, self._replace_frontend)

    def _replace_frontend(self, error: LevityError) -> None:
        """Ask the arbiter for another front-end: this one broke the stream, so it is broken or taken over."""
        log(f"levityd: engine: the front-end is not understood and is replaced: {error.message[:200]}")
        self._control.send("replace_frontend")

    def _on_request(self, channel: FrontendChannel, request: EngineRequest, fd: int) -> None:
        # What a client wrote is never looked up among what only the front-end may ask.
        if not request.is_clients and self._frontend_operations.serves(request.method):
            self._receive(channel, request, fd)
            return
        if fd >= 0:
            os.close(fd)
        self._operations.handle(request, lambda answer: channel.reply(request, answer))

    def _receive(self, channel: FrontendChannel, request: EngineRequest, fd: int) -> None:
        try:
            result, lent_fd = self._frontend_operations.handle(request, fd)
        except LevityError as error:
            channel.reply(request, error)
        else:
            channel.reply(request, result, lent_fd)

    def _on_control(self, _events: int) -> None:
        handlers = {
            "ping": lambda _message: self._control.send("pong"),
            "peer": self._on_peer,
            "stop": lambda _message: self._loop.stop(),
        }
        try:
            self._control.dispatch(self._control.receive(), handlers)
        except EOFError:
            self._loop.stop()  # The arbiter is gone.

    def _on_peer(self, message: Message) -> None:
        """A new front-end is there: this is our end of the pipe to it."""
        if (fd := message.take_descriptor()) >= 0:
            self._channel.close()
            self._operations.forget_waits()
            self._channel = self._open_channel(fd)

    def _on_hints(self, _events: int) -> None:
        for _turn in range(_HINTS_A_TURN):
            try:
                hint = self._hints.recv(64).decode("ascii", "replace")
            except BlockingIOError:
                return
            if is_task_id(hint):
                self._tasks.look(hint)

    def _plan_commit(self) -> None:
        """Have what this turn changed committed soon. Queries are answered from it meanwhile."""
        if (self._registry.has_unstored or self._audit.has_pending) and self._commit_timer is None:
            self._commit_timer = self._loop.later(_COMMIT_DELAY_S, self._commit)

    def _commit(self) -> None:
        self._commit_timer = None
        # One after the other, whatever becomes of the first.
        is_done = [self._registry.commit(), self._audit.retry()]
        if not all(is_done):
            # A full disk, or a stranger's lock on the file.
            self._commit_timer = self._loop.later(_COMMIT_RETRY_S, self._commit)


def _hint_socket() -> socket.socket:
    hints = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    hints.setblocking(False)
    try:
        os.unlink(ENGINE_SOCKET)
    except FileNotFoundError:
        pass
    hints.bind(ENGINE_SOCKET)
    return hints


def _say_bug(error: Exception) -> None:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}" if place else ""
    log(f"levityd: engine: {type(error).__name__}: {error}{where}")
