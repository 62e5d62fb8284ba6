"""Every live task's way from "accepted" to "over". Runs in: engine. Owns: the live tasks.

There is one question, `_reconcile`: what does the task's directory say now? It is asked after a hint from a shim, when
a shim is gone, and for every live task when the engine starts. A start only asks the zygote for a shim and reconciles.
"""

import errno
import time
from collections.abc import Callable

from levity.channel_binding import boot_id
from levity.errors import LevityError
from supervisor.engine.loop import Loop, Timer
from supervisor.engine.storage import task_directory as directory
from supervisor.engine.storage.observation import Observation, classify, observe
from supervisor.engine.storage.registry import Registry, Row
from supervisor.engine.tasks.dead_shims import DeadShims
from supervisor.engine.tasks.live_task import (
    Adopted,
    Answer,
    Ended,
    LiveTask,
    Lost,
    Running,
    Signal,
    Spawning,
    Starting,
    Stopping,
    Unclaimed,
    tell,
)
from supervisor.engine.tasks.phase import STEPS, WATCHING, Phase, Step, lost
from supervisor.engine.tasks.shim_control import send_command
from supervisor.engine.tasks.shim_watch import ShimWatch
from supervisor.engine.tasks.start_errors import host_error, start_error
from supervisor.log import log
from supervisor.spool.commands import SIGNAL
from supervisor.spool.layout import NO_SPACE_BYTE
from supervisor.spool.records import ExitRecord, JsonObject, RecordVersionError, ShimRecord, Spec
from supervisor.spool.start_failure import HOST, StartFailure
from supervisor.spool.zygote_messages import Gone

__all__ = ["Tasks"]

# How often a shim may vanish before it has executed anything.
_TRIES = 5
# A client whose start was accepted but not answered may retry for this long; then the task ends as "never started".
_UNCLAIMED_S = 60.0
# A signal's answer waits for the shim's confirmation, unless the shim is stopped.
_CONFIRM_S = 1.0
_LOOK_RETRY_S = 5.0


class Tasks:
    """The live tasks by id.

    `ask(id)` has the zygote fork a shim. `on_stored(urgent)` is called when there may be more output on the disk than
    before; it is urgent when a task waits for room. `spool_gid` is the group that may read output, None if no group
    may. `observe(id)` looks at a task's directory.
    """

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        ask: Callable[[str], None],
        on_stored: Callable[[bool], None],
        spool_gid: int | None = None,
        observe: Callable[[str], Observation] = observe,
    ) -> None:
        self.live: dict[str, LiveTask] = {}
        self.boot_id = boot_id()
        self._loop = loop
        self._registry = registry
        self._ask = ask
        self._on_stored = on_stored
        self._spool_gid = spool_gid
        self._observe = observe
        self._shims = ShimWatch(loop, self.look)
        self._dead_shims = DeadShims()
        self._dead_shims_timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<Tasks {len(self.live)} live>"

    @property
    def is_out_of_space(self) -> bool:
        """Whether a task waits for room on the disk."""
        return any(task.blocked == NO_SPACE_BYTE for task in self.live.values())

    # Asked by clients

    def start(self, spec: Spec, answer: Answer) -> None:
        """Accept a new task and start it; `answer` is called once its command is executed or has failed to be."""
        try:
            directory.create(spec.id, spec, self._spool_gid)
        except OSError as error:
            answer(host_error(error.errno or 0, "the task cannot be stored"))
            return
        self.live[spec.id] = LiveTask(spec, Spawning([answer], [], tries=1, outstanding=1))
        self._registry.put(Row(spec.id, spec, None), is_new=True)
        self._ask(spec.id)
        self._on_stored(False)

    def start_again(self, task: LiveTask, answer: Answer) -> None:
        """Answer a start that was sent again like the first. A task that no client had claimed yet is started now."""
        match task.data:
            case Adopted(started=started) | Spawning(started=started) | Starting(started=started):
                started.append(answer)
                self._reconcile(task)
            case Unclaimed(signals=signals):
                task.become(Adopted([answer], signals))
                self._reconcile(task)
            case Lost(phase=Phase.LOST_STARTING, started=started):
                started.append(answer)
            case Running() | Stopping() | Lost() | Ended():
                answer(task.record())

    def signal(self, task: LiveTask, grace_s: float | None, answer: Answer) -> None:
        """Ask a task to quit; `answer` is called when its shim has confirmed it."""
        match task.data:
            case Adopted() | Unclaimed() | Spawning() | Starting():
                task.data.signals.append(Signal(grace_s, answer))
            case Lost(phase=Phase.LOST_STARTING, confirming=confirming):
                confirming.append(answer)
            case Running(confirming=confirming) | Stopping(confirming=confirming) | Lost(confirming=confirming):
                confirming.append(answer)
                self._send_signal(task, grace_s)
            case Ended():
                answer(task.record())

    def _send_signal(self, task: LiveTask, grace_s: float | None) -> None:
        # If no shim listens any more, the task's end is about to be seen and answers.
        send_command(task.id, task.commands, SIGNAL, **({} if grace_s is None else {"grace_s": grace_s}))
        self._loop.later(_CONFIRM_S, task.confirm)

    # Told by the zygote, the shims and the kernel

    def adopt(self, spec: Spec) -> None:
        """Take over a task that was accepted before this engine started."""
        task = self.live[spec.id] = LiveTask(spec, Adopted([], []))
        self._reconcile(task)

    def shim_gone(self, gone: Gone) -> None:
        """Note that the zygote saw a shim leave, or could not fork it."""
        if task := self.live.get(gone.id):
            if isinstance(task.data, Spawning | Starting):
                task.data.outstanding -= 1
            # A shim that fails without a word is broken; shim-crash.log says more.
            self._reconcile(task, gone.failure or (StartFailure(HOST, errno.EIO) if gone.status > 0 else None))

    def ask_again(self) -> None:
        """Ask the new zygote for all shims that the one before was asked for: it may have forked them or not.

        If it did fork a shim, that has the task's lock, and the second one leaves.
        """
        for task in list(self.live.values()):
            if isinstance(task.data, Spawning | Starting) and task.data.outstanding:
                task.data.outstanding = 0
                self._reconcile(task)

    def look(self, task_id: str) -> None:
        """Find out what has become of a task and act on it."""
        if task := self.live.get(task_id):
            self._reconcile(task)

    def _reconcile(self, task: LiveTask, failure: StartFailure | None = None) -> None:
        """Bring the task in line with its directory, given why it did not run if its shim has just said so."""
        try:
            seen = self._observe(task.id)
        except (FileNotFoundError, NotADirectoryError):
            self._lose(task, None)  # Its directory is gone, and all its records with it.
            return
        except (OSError, RecordVersionError) as error:
            # Out of descriptors, say, or a newer levity wrote the directory. The task goes on all the same.
            log(f"levityd: task {task.id} cannot be looked at now: {error}")
            self._loop.later(_LOOK_RETRY_S, lambda: self.look(task.id))
            return
        step = STEPS[task.phase][classify(seen)]
        if step in WATCHING:
            self._shims.watch(task.id, seen.holder)
            self._on_stored(seen.blocked == NO_SPACE_BYTE)
        if step is Step.TAKE:
            self._take(task)
        elif step is Step.RUN and seen.shim is not None:
            self._see_running(task, seen.shim, seen.blocked)
        elif step is Step.SPAWN:
            self._try_start(task, failure)
        elif step is Step.LOSE:
            known = task.data.shim if isinstance(task.data, Running | Stopping) else None
            self._lose(task, seen.shim or known)
        elif step is Step.END and seen.exit is not None:
            self._end(task, seen.exit)

    def _take(self, task: LiveTask) -> None:
        """A shim has the task, and has not executed its command yet."""
        match task.data:
            case Adopted(started=started, signals=signals):
                task.become(Starting(started, signals, tries=0, outstanding=0))
            case Unclaimed(signals=signals):
                task.become(Starting([], signals, tries=0, outstanding=0))
            case Spawning(started=started, signals=signals, tries=tries, outstanding=outstanding):
                task.become(Starting(started, signals, tries, outstanding))
            case Starting():
                pass  # This is known.
            case Running() | Stopping() | Lost() | Ended():
                raise AssertionError(task)  # STEPS says so.

    def _try_start(self, task: LiveTask, failure: StartFailure | None) -> None:
        """No shim has the task, and it was never executed."""
        if task.spec.boot_id not in (None, self.boot_id):
            # It may have run: a shim's record need not survive a power cut.
            self._lose(task, None, lived_in=task.spec.boot_id)
            return
        match task.data:
            case Adopted(started=[], signals=signals) | Starting(started=[], outstanding=0, signals=signals):
                # Accepted by an engine that died before it answered. The client that waits for the answer asks again.
                expiry = self._loop.later(_UNCLAIMED_S, lambda: self._lose(task, None))
                task.become(Unclaimed(signals, expiry))
            case Adopted(started=started, signals=signals):
                self._spawn(task, started, signals, tries=0)
            case Starting(outstanding=outstanding) as data if outstanding:
                task.become(Spawning(data.started, data.signals, data.tries, outstanding))
            case Spawning(outstanding=0) | Starting() as data:
                if failure is not None or data.tries >= _TRIES:
                    self._fail_start(task, start_error(failure, task.spec))
                else:
                    self._spawn(task, data.started, data.signals, data.tries)
            case Spawning() | Unclaimed():
                pass  # A shim is on its way; a client may come back for it.
            case Running() | Stopping() | Lost() | Ended():
                raise AssertionError(task)  # STEPS says so.

    def _spawn(self, task: LiveTask, started: list[Answer], signals: list[Signal], tries: int) -> None:
        task.become(Spawning(started, signals, tries + 1, outstanding=1))
        self._ask(task.id)

    def _see_running(self, task: LiveTask, shim: ShimRecord, blocked: int) -> None:
        """A shim has the task, and its command is executed."""
        started, confirming = task.waiting()
        signals = task.data.signals if isinstance(task.data, Adopted | Unclaimed | Spawning | Starting) else []
        if shim.signalled_ns is not None or task.phase is Phase.STOPPING:
            task.become(Stopping(shim, blocked, confirming))
        else:
            task.become(Running(shim, blocked, confirming))
        tell(started, task.record())
        if task.phase is Phase.STOPPING:
            task.confirm()
        for signal in signals:
            self._send_signal(task, signal.grace_s)

    # Ends

    def _end(self, task: LiveTask, outcome: ExitRecord) -> None:
        waiting = task.waiting()
        task.become(Ended(outcome))
        self._registry.put(Row(task.id, task.spec, outcome))
        self._forget(task, waiting, task.record())
        self._on_stored(False)

    def _fail_start(self, task: LiveTask, error: LevityError) -> None:
        """Leave nothing of a task whose command could not be executed: its client gets the error."""
        directory.remove(task.id)
        self._registry.remove(task.id)
        self._forget(task, task.waiting(), error)

    def _forget(
        self, task: LiveTask, waiting: tuple[list[Answer], list[Answer]], result: JsonObject | LevityError
    ) -> None:
        self._shims.forget(task.id)
        del self.live[task.id]
        for answers in waiting:
            tell(answers, result)
        task.tell_end(result)

    def _lose(self, task: LiveTask, shim: ShimRecord | None, lived_in: str | None = None) -> None:
        """The shim is gone and will record nothing: have what it left killed, and its end recorded.

        `shim` is its record, None if it left none; then `lived_in` is the boot in which the task was accepted, None if
        no shim can have had it.
        """
        if isinstance(task.data, Lost):
            return
        if shim is not None:
            lived_in = shim.boot_id
        self._dead_shims.add(task.id, shim, lived_in, watched=self._shims.has_watched(task.id))
        task.become(Lost(lost(task.phase, shim), shim, *task.waiting()))
        self._shims.stop(task.id)
        if self._dead_shims_timer is None:
            self._bury()

    def _bury(self) -> None:
        """Do a bit of that for all lost tasks together: one look at all processes serves every one of them."""
        for task_id, outcome in self._dead_shims.step(time.monotonic()).items():
            self._end(self.live[task_id], outcome)
        delay_s = self._dead_shims.delay_s
        self._dead_shims_timer = None if delay_s is None else self._loop.later(delay_s, self._bury)
