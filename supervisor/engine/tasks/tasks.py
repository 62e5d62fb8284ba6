"""Every live task's way from "accepted" to "over". Runs in: engine. Owns: the live tasks.

There is one question, `look`: what does the task's directory say now? It is asked after a hint from a shim, when a
shim is gone, and for every live task when the engine starts; a start is nothing but asking the zygote and then
looking.
"""

import errno
import os
import time
from collections.abc import Callable

from levity.errors import LevityError
from levity.states import State
from supervisor.engine.loop import Loop, Timer
from supervisor.engine.storage import task_directory as directory
from supervisor.engine.storage.judge import Finding, judge
from supervisor.engine.storage.registry import Registry, Row
from supervisor.engine.tasks.dead_shims import Losses
from supervisor.engine.tasks.live_task import Answer, LiveTask
from supervisor.engine.tasks.shim_control import send_command
from supervisor.engine.tasks.start_errors import host_error, start_error
from supervisor.hostos.procfs import boot_id
from supervisor.log import say
from supervisor.spool.commands import SIGNAL
from supervisor.spool.layout import NO_SPACE_BYTE
from supervisor.spool.records import ExitRecord, JsonObject, RecordVersionError, ShimRecord, Spec
from supervisor.spool.start_failure import HOST, StartFailure
from supervisor.spool.zygote_messages import Gone

__all__ = ["Tasks"]

# How often a shim may vanish before it has executed anything.
_TRIES = 5
# Who was promised nothing may come back and ask again for this long; then the task is not started any more.
_UNCLAIMED_S = 60.0
# A signal's answer waits for the shim's confirmation, unless the shim is stopped.
_CONFIRM_S = 1.0
# A shim that has just gone is seen for what it is the next time; out of descriptors, some must become free first.
_WATCH_RETRY_S = 0.05
_LOOK_RETRY_S = 5.0


class Tasks:
    """The live tasks by id.

    `ask(id)` has the zygote fork a shim. `on_stored(urgent)` is told when there may be more output on the disk than
    before: urgent, when a task waits for room. `spool_gid` is the group that may read output, None for nobody else.
    """

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        ask: Callable[[str], None],
        on_stored: Callable[[bool], None],
        spool_gid: int | None = None,
    ) -> None:
        self.live: dict[str, LiveTask] = {}
        self._loop = loop
        self._registry = registry
        self._ask = ask
        self._on_stored = on_stored
        self._spool_gid = spool_gid
        self.boot_id = boot_id()
        self._losses = Losses()
        self._losses_timer: Timer | None = None

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
        task = self.live[spec.id] = LiveTask(spec)
        self._registry.put(Row(task.id, spec, None))
        task.started.append(answer)
        self._ask_for(task)
        self._on_stored(False)

    def start_again(self, task: LiveTask, answer: Answer) -> None:
        """A start was sent twice: answer it like the first; a task that nobody had claimed yet is started now."""
        if task.state is not State.NOT_STARTED:
            answer(task.record())
            return
        task.started.append(answer)
        self._claim(task)
        self.look(task.id)

    def signal(self, task: LiveTask, grace_s: float | None, answer: Answer) -> None:
        """Ask a task to quit; `answer` is called when its shim has confirmed it."""
        task.signalled.append(answer)
        if task.state is State.NOT_STARTED:
            task.pending_signals.append(grace_s)
            return
        self._send_signal(task, grace_s)

    def _send_signal(self, task: LiveTask, grace_s: float | None) -> None:
        # If no shim listens any more, the task's end is about to be seen and answers.
        send_command(task.id, task.commands, SIGNAL, **({} if grace_s is None else {"grace_s": grace_s}))
        self._loop.later(_CONFIRM_S, lambda: task.answer(task.signalled, task.record()))

    # Told by the zygote, the shims and the kernel

    def adopt(self, spec: Spec) -> None:
        """Take over a task that was accepted before this engine started."""
        task = self.live[spec.id] = LiveTask(spec)
        self.look(task.id)

    def shim_gone(self, gone: Gone) -> None:
        """The zygote saw a shim leave, or could not fork it."""
        if task := self.live.get(gone.id):
            task.outstanding -= 1
            # A shim that fails without a word is broken; shim-crash.log says more.
            self._look(task, gone.failure or (StartFailure(HOST, errno.EIO) if gone.status > 0 else None))

    def ask_again(self) -> None:
        """The zygote was replaced.

        What it was asked for may be lost. A shim that came of it nevertheless wins by its lock.
        """
        for task in [task for task in self.live.values() if task.outstanding]:
            task.outstanding = 0
            self._look(task)

    def look(self, task_id: str) -> None:
        """Find out what has become of a task and act on it."""
        if task := self.live.get(task_id):
            self._look(task)

    def _look(self, task: LiveTask, failure: StartFailure | None = None) -> None:
        """Look at a task, given why it did not run if its shim has just said so."""
        if task.id in self._losses:
            return  # Its end is being recorded.
        try:
            seen = directory.observe(task.id)
        except (FileNotFoundError, NotADirectoryError):
            self._lose(task, None)  # Its directory is gone: so is what was known of it.
            return
        except (OSError, RecordVersionError) as error:
            # Out of descriptors, say, or a newer levity is at work on the same directory. The task is none the worse.
            say(f"levityd: task {task.id} cannot be looked at now: {error}")
            self._loop.later(_LOOK_RETRY_S, lambda: self.look(task.id))
            return
        finding = judge(seen)
        if finding is Finding.OVER and seen.exit is not None:
            self._end(task, seen.exit)
        elif finding is Finding.NEVER_STARTED:
            self._try_start(task, failure)
        elif finding is Finding.LOST and seen.shim is not None:
            self._lose(task, seen.shim, seen.shim.boot_id)
        else:
            self._watch(task, seen.holder)
            task.blocked = seen.blocked
            self._on_stored(seen.blocked == NO_SPACE_BYTE)
            if finding is Finding.RUNNING and seen.shim is not None:
                self._see_running(task, seen.shim)

    def _try_start(self, task: LiveTask, failure: StartFailure | None) -> None:
        """No shim has the task, and it was never executed."""
        if task.spec.boot_id not in (None, self.boot_id):
            self._lose(task, None, task.spec.boot_id)  # It may have run: who watched it need not survive a power cut.
        elif task.outstanding:
            return  # One is on its way.
        elif not task.started:
            # Accepted by an engine that died before it answered. Whoever waits for the answer asks again.
            if task.unclaimed is None:
                task.unclaimed = self._loop.later(_UNCLAIMED_S, lambda: self._lose(task, None))
        elif failure is not None or task.tries >= _TRIES:
            self._fail_start(task, start_error(failure, task.spec))
        else:
            self._ask_for(task)

    def _see_running(self, task: LiveTask, facts: ShimRecord) -> None:
        signalled = facts.signalled_ns is not None
        task.move(State.SIGNALLED if signalled else State.RUNNING, facts)
        task.answer(task.started, task.record())
        if signalled:
            task.answer(task.signalled, task.record())
        pending, task.pending_signals = task.pending_signals, []
        for grace_s in pending:
            self._send_signal(task, grace_s)

    def _watch(self, task: LiveTask, holder: int) -> None:
        """Have the kernel tell when the shim is gone.

        A pidfd, proven by the lock that is still held once it is open.
        """
        if task.pidfd >= 0:
            return
        try:
            pidfd = os.pidfd_open(holder)
        except OSError as error:
            delay_s = _WATCH_RETRY_S if error.errno == errno.ESRCH else _LOOK_RETRY_S
            self._loop.later(delay_s, lambda: self.look(task.id))
            return
        if not self._has_shim(task, holder):
            os.close(pidfd)
            self._loop.later(_WATCH_RETRY_S, lambda: self.look(task.id))
            return
        task.pidfd = pidfd
        task.was_watched = True
        self._loop.watch(pidfd, lambda _events: self._shim_died(task))

    def _has_shim(self, task: LiveTask, holder: int) -> bool:
        try:
            return directory.shim_of(task.id) == holder
        except OSError:
            return False

    def _shim_died(self, task: LiveTask) -> None:
        self._unwatch(task)
        self.look(task.id)

    def _unwatch(self, task: LiveTask) -> None:
        if task.pidfd >= 0:
            self._loop.forget(task.pidfd)
            os.close(task.pidfd)
            task.pidfd = -1

    # Ends

    def _ask_for(self, task: LiveTask) -> None:
        task.tries += 1
        task.outstanding += 1
        self._ask(task.id)

    def _claim(self, task: LiveTask) -> None:
        if task.unclaimed is not None:
            task.unclaimed.cancel()
            task.unclaimed = None

    def _end(self, task: LiveTask, outcome: ExitRecord) -> None:
        task.blocked = 0
        task.move(outcome.state, outcome)
        self._registry.put(Row(task.id, task.spec, outcome))
        self._forget(task, task.record())
        self._on_stored(False)

    def _fail_start(self, task: LiveTask, error: LevityError) -> None:
        """The command was never executed, and nobody was given the id: leave nothing of it."""
        directory.remove(task.id)
        self._registry.remove(task.id)
        self._forget(task, error)

    def _forget(self, task: LiveTask, answer: JsonObject | LevityError) -> None:
        self._unwatch(task)
        self._claim(task)
        del self.live[task.id]
        task.answer(task.started, answer)
        task.answer(task.signalled, answer)
        task.answer_end(answer)

    def _lose(self, task: LiveTask, shim: ShimRecord | None, lived_in: str | None = None) -> None:
        """The shim is gone and will record nothing: see to it that nothing is left running, then record that.

        `lived_in` is the boot in which it had the task, None if no boot is known or it never had.
        """
        if task.id not in self._losses:
            self._unwatch(task)
            self._claim(task)
            task.blocked = 0
            self._losses.add(task.id, shim, lived_in, watched=task.was_watched)
            if self._losses_timer is None:
                self._pursue_losses()

    def _pursue_losses(self) -> None:
        """Do the next bit for all lost tasks together: one look at every process there is serves them all."""
        for task_id, outcome in self._losses.step(time.monotonic()).items():
            self._end(self.live[task_id], outcome)
        delay_s = self._losses.delay_s
        self._losses_timer = None if delay_s is None else self._loop.later(delay_s, self._pursue_losses)
