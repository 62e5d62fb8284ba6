"""What clients can ask of the engine: one literal table of names. Runs in: engine. Owns: nothing."""

import os
import time
from collections.abc import Callable

from levity.errors import AmbiguousTask, Conflict, InternalError, LevityError, Unavailable, UnknownMethod, UnknownTask
from levity.protocol.messages import PROTOCOL_VERSION, Request, dump_object
from levity.states import State
from levity.version import __version__
from supervisor.engine.control import send_command
from supervisor.engine.janitor import Limits
from supervisor.engine.loop import Loop
from supervisor.engine.record import make_brief, make_record
from supervisor.engine.registry import Registry, RegistryCorruptError, RegistryUnusableError, Row
from supervisor.engine.request import check_start, grace_of, page_of, prefix_of, wait_of
from supervisor.engine.task import Answer
from supervisor.engine.tasks import Tasks
from supervisor.engine.waiting import Wait
from supervisor.say import say
from supervisor.spool.records import JsonObject

__all__ = ["Operations"]

# A page of a list fits into one frame whatever its tasks' arguments are.
_PAGE_BYTES = 4 * 1024 * 1024
_ID_CHARACTERS = frozenset("0123456789abcdef-")


class Operations:
    """Carries out requests: `handle(request, answer)` calls `answer` once, now or later, with a result or an error."""

    def __init__(
        self, loop: Loop, tasks: Tasks, registry: Registry, state_dir: str, log_cap: int, limits: Limits
    ) -> None:
        self._loop = loop
        self._tasks = tasks
        self._registry = registry
        self._state_dir = state_dir
        self._log_cap = log_cap
        self._limits = limits
        self._waits: dict[str, Wait] = {}
        self._table: dict[str, Callable[[JsonObject, Answer], None]] = {
            "task.start": self._start,
            "task.query": self._query,
            "task.signal": self._signal,
            "task.list": self._list,
            "task.wait": self._wait,
            "task.unwait": self._unwait,
            "task.stdin": self._stdin,
            "server.info": self._info,
        }

    def handle(self, request: Request, answer: Answer) -> None:
        """Carry out one request."""
        operation = self._table.get(request.method)
        if operation is None:
            answer(UnknownMethod(f"unknown operation {request.method[:64]!r}; this is levityd {__version__}"))
            return
        try:
            operation(request.params, answer)
        except LevityError as error:
            answer(error)
        except RegistryCorruptError:
            raise
        except RegistryUnusableError as error:
            answer(Unavailable(f"levityd's registry cannot be read now ({error}); ask again"))
        except Exception as error:  # noqa: BLE001 The outermost boundary of a request: it must not end the engine.
            say(f"levityd: engine: {request.method}: {type(error).__name__}: {error}")
            answer(InternalError("levityd failed over this request; its log says more"))

    def _start(self, params: JsonObject, answer: Answer) -> None:
        spec = check_start(params, time.time_ns(), self._log_cap)
        row = self._registry.get(spec["id"])
        if row is None:
            self._tasks.start(spec, answer)
            return
        differs = any(row.spec[key] != spec[key] for key in ("argv", "cwd", "env"))
        if differs or any(row.spec.get(key, False) != spec[key] for key in ("stdin", "merged")):
            raise Conflict(f"the id {spec['id']} is in use for another command")
        task = self._tasks.live.get(row.id)
        if task is None:
            answer(_record_of(row))
        else:
            self._tasks.start_again(task, answer)

    def _query(self, params: JsonObject, answer: Answer) -> None:
        answer(self._record(self._find(prefix_of(params))))

    def _signal(self, params: JsonObject, answer: Answer) -> None:
        grace_s = grace_of(params)
        task_id = self._find(prefix_of(params))
        task = self._tasks.live.get(task_id)
        if task is None:
            answer(self._record(task_id))  # It is over: that is what was wanted.
        else:
            self._tasks.signal(task, grace_s, answer)

    def _list(self, params: JsonObject, answer: Answer) -> None:
        live_only, after, limit = page_of(params)
        records: list[JsonObject] = []
        size = 0
        self._registry.commit()
        rows = self._registry.page(after, limit, live_only=live_only)
        for cursor, row in rows:
            task = self._tasks.live.get(row.id)
            if live_only and task is None:
                after = cursor
                continue  # It has ended, which the disk did not take yet.
            record = task.record() if task else _record_of(row)
            size += len(dump_object(record))
            if records and size > _PAGE_BYTES:
                break
            records.append(record)
            after = cursor
        more = len(records) < len(rows) or len(rows) == limit
        answer({"tasks": records, "next": after if more else None})

    def _wait(self, params: JsonObject, answer: Answer) -> None:
        prefixes, one_is_enough, within_s = wait_of(params)
        ids = [self._find(prefix) for prefix in prefixes]
        live = {task_id: self._tasks.live[task_id] for task_id in ids if task_id in self._tasks.live}
        over = {task_id: self._brief(task_id) for task_id in ids if task_id not in live}
        token = str(params.get("token", ""))

        def answer_once(result: JsonObject | LevityError) -> None:
            self._waits.pop(token, None)
            answer(result)

        wait = self._waits[token] = Wait(ids, over, live, one_is_enough=one_is_enough, answer=answer_once)
        wait.begin(self._loop, within_s)

    def _unwait(self, params: JsonObject, answer: Answer) -> None:
        """Whoever waited with this token has left."""
        if wait := self._waits.pop(str(params.get("token", "")), None):
            wait.give_up()
        answer({})

    def forget_waits(self) -> None:
        """The front-end is gone, and with it all who waited."""
        while self._waits:
            self._waits.popitem()[1].give_up()

    def _stdin(self, params: JsonObject, answer: Answer) -> None:
        """There is new input for a task: its shim is told. One that is over reads no more, and that is no error."""
        task_id = self._find(prefix_of(params))
        if task_id in self._tasks.live:
            send_command(task_id, {"stdin": True})
        answer({})

    def _info(self, _params: JsonObject, answer: Answer) -> None:
        answer(
            {
                "version": __version__,
                "protocol": PROTOCOL_VERSION,
                "pid": os.getppid(),
                "state_dir": self._state_dir,
                "live": len(self._tasks.live),
                "log_cap": self._log_cap,
                "log_quota": self._limits.quota,
                "min_free": self._limits.min_free,
            }
        )

    def _find(self, prefix: str) -> str:
        """Return the one id that starts with `prefix`."""
        if prefix in self._tasks.live:
            return prefix
        found = self._registry.ids_from(prefix, 3) if _ID_CHARACTERS.issuperset(prefix) else []
        if not found:
            raise UnknownTask(f"no task has the id {prefix[:64]!r}; `levity list --all` shows those there are")
        if len(found) > 1:
            raise AmbiguousTask(
                f"{prefix!r} is the start of more than one id ({found[0]}, {found[1]}, ...); give more of it"
            )
        return found[0]

    def _record(self, task_id: str) -> JsonObject:
        if task := self._tasks.live.get(task_id):
            return task.record()
        return _record_of(self._row(task_id))

    def _brief(self, task_id: str) -> JsonObject:
        outcome = self._row(task_id).outcome or {}
        return make_brief(task_id, State(outcome.get("state", State.NOT_STARTED)), outcome)

    def _row(self, task_id: str) -> Row:
        row = self._registry.get(task_id)
        if row is None:
            raise UnknownTask(f"no task has the id {task_id!r}")
        return row


def _record_of(row: Row) -> JsonObject:
    outcome = row.outcome or {}
    return make_record(row.spec, State(outcome.get("state", State.NOT_STARTED)), outcome)
