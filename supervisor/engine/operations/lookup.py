"""The tasks as one user sees them. Runs in: engine. Owns: nothing.

A user may not learn whether another user has a task of some id. So a lookup goes through the user's own rows only:
another user's task gets the same answer as a task that does not exist, and takes as long.
"""

from levity.errors import AmbiguousTask, Forbidden, UnknownTask
from levity.protocol.messages import dump_object
from levity.states import State
from supervisor.engine.operations.page_token import open_page_token, seal_page_token
from supervisor.engine.storage.registry import Registry, Row
from supervisor.engine.tasks.live_task import LiveTask
from supervisor.engine.tasks.phase import Phase, ended
from supervisor.engine.tasks.record import make_brief, make_record
from supervisor.security.principal import Principal
from supervisor.security.roles import Right
from supervisor.spool.records import JsonObject, Spec

__all__ = ["Lookup", "record_of"]

# A page of a list fits into one frame whatever its tasks' arguments are.
_PAGE_BYTES = 4 * 1024 * 1024
_ID_CHARACTERS = frozenset("0123456789abcdef-")


class Lookup:
    """Finds tasks and their records. `live` are the live ones by id; tasks without an owner belong to `own_user`."""

    def __init__(self, registry: Registry, live: dict[str, LiveTask], own_user: str, page_key: bytes) -> None:
        self._registry = registry
        self._live = live
        self._own_user = own_user
        self._page_key = page_key

    def find(self, who: Principal, right: Right, prefix: str) -> str:
        """Return the one id that starts with `prefix`, if `who` has that right to its task.

        Raises UnknownTask or AmbiguousTask; Forbidden only if `who` may see the task.
        """
        found = self._ids_from(who, prefix)
        if not found:
            raise UnknownTask(f"no task has the id {prefix[:64]!r}; `levity list --all` shows those there are")
        if len(found) > 1:
            raise AmbiguousTask(
                f"{prefix!r} is the start of more than one id ({found[0]}, {found[1]}, ...); give more of it"
            )
        owner = self.owner_of(self._spec(found[0]))
        if not who.may_with(right, owner):
            raise Forbidden(f"task {found[0]} is {owner}'s, and {who.user} may only look at it")
        return found[0]

    def _ids_from(self, who: Principal, prefix: str) -> list[str]:
        if not _ID_CHARACTERS.issuperset(prefix):
            return []
        if who.sees_all:
            return [prefix] if prefix in self._live else self._registry.ids_from(prefix, 3)
        return self._registry.ids_from(prefix, 3, owner=who.user)

    def owner_of(self, spec: Spec) -> str:
        """Return who started a task."""
        return spec.owner or self._own_user

    def _spec(self, task_id: str) -> Spec:
        task = self._live.get(task_id)
        return task.spec if task else self._row(task_id).spec

    def record(self, task_id: str) -> JsonObject:
        """Return what clients get of a task."""
        if task := self._live.get(task_id):
            return task.record()
        return record_of(self._row(task_id))

    def brief(self, task_id: str) -> JsonObject:
        """Return what a wait is answered with for a task that is not live."""
        outcome = self._row(task_id).outcome
        return make_brief(task_id, State.NOT_STARTED if outcome is None else outcome.state, outcome)

    def count_live(self, who: Principal) -> int:
        """Return how many live tasks `who` sees."""
        if who.sees_all:
            return len(self._live)
        return sum(self.owner_of(task.spec) == who.user for task in self._live.values())

    def page(self, who: Principal, cursor: str | None, limit: int, *, live_only: bool) -> JsonObject:
        """Return the reply to a task.list."""
        after = open_page_token(self._page_key, cursor)
        records: list[JsonObject] = []
        size = 0
        rows = self._registry.page(after, limit, live_only=live_only, owner=None if who.sees_all else who.user)
        for number, row in rows:
            task = self._live.get(row.id)
            record = task.record() if task else record_of(row)
            size += len(dump_object(record))
            if records and size > _PAGE_BYTES:
                break
            records.append(record)
            after = number
        more = len(records) < len(rows) or len(rows) == limit
        return {"tasks": records, "next": seal_page_token(self._page_key, after) if more else None}

    def _row(self, task_id: str) -> Row:
        row = self._registry.get(task_id)
        if row is None:
            raise UnknownTask(f"no task has the id {task_id!r}")
        return row


def record_of(row: Row) -> JsonObject:
    """Return what clients get of a task that is not live."""
    return make_record(row.spec, Phase.ADOPTED if row.outcome is None else ended(row.outcome.state), row.outcome)
