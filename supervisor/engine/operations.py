"""What clients can ask of the engine: one literal table of names. Runs in: engine. Owns: nothing."""

import os
import time
from collections.abc import Callable

from levity.errors import AmbiguousTask, Conflict, InternalError, LevityError, Unavailable, UnknownMethod, UnknownTask
from levity.protocol.messages import PROTOCOL_VERSION, Request, dump_object
from levity.states import State
from levity.version import __version__
from supervisor.engine.record import make_record
from supervisor.engine.registry import Registry, RegistryCorruptError, RegistryUnusableError, Row
from supervisor.engine.request import check_start, grace_of, page_of, prefix_of
from supervisor.engine.task import Answer
from supervisor.engine.tasks import Tasks
from supervisor.say import say
from supervisor.spool.records import JsonObject

__all__ = ["Operations"]

# A page of a list fits into one frame whatever its tasks' arguments are.
_PAGE_BYTES = 4 * 1024 * 1024
_ID_CHARACTERS = frozenset("0123456789abcdef-")


class Operations:
    """Carries out requests: `handle(request, answer)` calls `answer` once, now or later, with a result or an error."""

    def __init__(self, tasks: Tasks, registry: Registry, state_dir: str) -> None:
        self._tasks = tasks
        self._registry = registry
        self._state_dir = state_dir
        self._table: dict[str, Callable[[JsonObject, Answer], None]] = {
            "task.start": self._start,
            "task.query": self._query,
            "task.signal": self._signal,
            "task.list": self._list,
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
        spec = check_start(params, time.time_ns())
        row = self._registry.get(spec["id"])
        if row is None:
            self._tasks.start(spec, answer)
            return
        if any(row.spec[key] != spec[key] for key in ("argv", "cwd", "env")):
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
            record = task.record() if task else _record_of(row)
            size += len(dump_object(record))
            if records and size > _PAGE_BYTES:
                break
            records.append(record)
            after = cursor
        more = len(records) < len(rows) or len(rows) == limit
        answer({"tasks": records, "next": after if more else None})

    def _info(self, _params: JsonObject, answer: Answer) -> None:
        answer(
            {
                "version": __version__,
                "protocol": PROTOCOL_VERSION,
                "pid": os.getppid(),
                "state_dir": self._state_dir,
                "live": len(self._tasks.live),
            }
        )

    def _find(self, prefix: str) -> str:
        """Return the one id that starts with `prefix`."""
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
        row = self._registry.get(task_id)
        if row is None:
            raise UnknownTask(f"no task has the id {task_id!r}")
        return _record_of(row)


def _record_of(row: Row) -> JsonObject:
    outcome = row.outcome or {}
    return make_record(row.spec, State(outcome.get("state", State.NOT_STARTED)), outcome)
