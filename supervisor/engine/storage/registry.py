"""The registry: an index over the tasks' directories. Runs in: engine. Owns: the only SQLite connection there is.

The directories are the truth: a task's shim writes its state there (supervisor/shim/shim_record.py, exit_record.py),
and the engine only where the shim is gone. Changes are kept in memory and stored together; a commit that fails is
tried again. A file that is damaged is moved aside and made anew from the directories.
"""

from contextlib import ExitStack, suppress

from supervisor.engine.storage.registry_file import open_file, set_aside
from supervisor.engine.storage.registry_rows import (
    NUMBER_LIMIT,
    Logs,
    RegistryCorruptError,
    Row,
    logs_of,
    owner_key,
    pack_row,
    unpack_row,
)
from supervisor.engine.storage.registry_schema import NewerRegistryError, RegistryUnusableError, translated
from supervisor.engine.storage.registry_unstored import Unstored

__all__ = [
    "Logs",
    "NewerRegistryError",
    "Registry",
    "RegistryCorruptError",
    "RegistryUnusableError",
    "Row",
    "set_aside",
]

_BY_ID = "SELECT id, over, spec, outcome, crc, owner FROM known_tasks WHERE id = ?"
_LIVE = "SELECT id, over, spec, outcome, crc, owner FROM known_tasks WHERE over = 0 ORDER BY number"
_NUMBER_AND_BYTES = (
    "SELECT (SELECT number FROM known_tasks WHERE id = :id), (SELECT bytes FROM known_logs WHERE id = :id)"
)
_OLDEST_LOGS = "SELECT id, bytes, ended_ns FROM known_logs WHERE ended_ns >= ? ORDER BY ended_ns LIMIT 1"

# Each of these goes through an index, so that tasks that are not asked for (those that are over, those of other owners)
# cost nothing, however many there are.
_PAGES = {
    # By live_only, and whether it is about one owner.
    (False, False): (
        "SELECT number, id, over, spec, outcome, crc, owner FROM known_tasks WHERE number > :after "
        "ORDER BY number LIMIT :limit"
    ),
    (True, False): (
        "SELECT number, id, over, spec, outcome, crc, owner FROM known_tasks WHERE over = 0 AND number > :after "
        "ORDER BY number LIMIT :limit"
    ),
    (False, True): (
        "SELECT number, id, over, spec, outcome, crc, owner FROM known_tasks WHERE owner = :owner AND number > :after "
        "ORDER BY number LIMIT :limit"
    ),
    (True, True): (
        "SELECT number, id, over, spec, outcome, crc, owner FROM known_tasks WHERE over = 0 AND owner = :owner "
        "AND number > :after ORDER BY number LIMIT :limit"
    ),
}
_IDS = "SELECT id FROM known_tasks WHERE id >= :first AND id < :end ORDER BY id LIMIT :limit"
_OWNERS_IDS = "SELECT id FROM known_tasks WHERE owner = :owner AND id >= :first AND id < :end ORDER BY id LIMIT :limit"


# The rows of so many changed tasks stay at hand until the commit. While a disk is full they must not fill the memory.
_RECENT_LIMIT = 1024


class _Recent:
    """A task that was changed since the last commit: its number, its row, how that is written, its stored output."""

    __slots__ = ("number", "row", "spec_json", "stored_bytes")

    def __init__(self, number: int, row: Row, spec_json: str, stored_bytes: int) -> None:
        self.number = number
        self.row = row
        self.spec_json = spec_json
        self.stored_bytes = stored_bytes


class Registry:
    """The open registry. `logs_bytes` is how much of the output of tasks that are over is stored, all together.

    A question may raise RegistryUnusableError: ask again later. Any method may raise RegistryCorruptError: set the file
    aside and make it anew.
    """

    def __init__(self, path: str) -> None:
        # All tasks with stored output ended at or after this. On a full disk the file keeps the rows of output that is
        # removed; without this bound, each search for the oldest would pass over all of them again.
        self._oldest_end_ns = 0
        # A short task is accepted, ends and is asked for within one commit: its row is not read out of JSON for that.
        self._recent: dict[str, _Recent] = {}
        self._lock_wait_s: float | None = None
        with ExitStack() as undo:
            self._db = open_file(path)
            undo.callback(self._db.close)
            with translated():
                self._unstored = Unstored(self._db)
                self._last_number = int(self._db.execute("SELECT coalesce(max(rowid), 0) FROM tasks").fetchone()[0])
            self.logs_bytes = self._sum_logs()
            undo.pop_all()

    def __repr__(self) -> str:
        return f"<Registry {self._last_number} tasks accepted{', some unstored' if self.has_unstored else ''}>"

    @property
    def has_unstored(self) -> bool:
        """Whether there are changes to commit."""
        return bool(self._unstored)

    def _sum_logs(self) -> int:
        with translated():
            sums = "SELECT total(bytes), total(bytes + ended_ns != proof) FROM main.logs"
            total, wrong = self._db.execute(sums).fetchone()
        if wrong:
            raise RegistryCorruptError("its account of logs is wrong")
        return int(total)

    # Changes

    def put(self, row: Row, logs_bytes: int | None = None, *, is_new: bool = False) -> None:
        """Remember a task; or how it ended, and that its output is stored.

        `logs_bytes` is how much output was counted; without it, the exit record says so. `is_new`: the caller knows
        that there is no task of this id.
        """
        recent = self._recent.get(row.id)
        if recent is not None:
            number, bytes_before = recent.number, recent.stored_bytes
        elif is_new:
            number, bytes_before = self._new_number(), 0
        else:
            number, bytes_before = self._number_and_bytes(row.id)
        columns = pack_row(row, None if recent is None else recent.spec_json)
        with translated():
            self._unstored.change_task(number, columns)
        logs = None
        if row.outcome is not None:
            logs = logs_of(row.id, row.outcome)
            if logs_bytes is not None:
                logs = Logs(row.id, logs_bytes, logs.ended_ns)
            self._change_logs(logs, bytes_before)
        if recent is not None or len(self._recent) < _RECENT_LIMIT:
            self._recent[row.id] = _Recent(number, row, columns[2], bytes_before if logs is None else logs.stored)

    def remove(self, task_id: str) -> None:
        """Forget a task, of which there is no output."""
        self._recent.pop(task_id, None)
        number, _bytes = self._number_and_bytes(task_id)
        with translated():
            self._unstored.remove_task(number, task_id)

    def _number_and_bytes(self, task_id: str) -> tuple[int, int]:
        """Return the number of a task, a new one for a new task; and how much of its output is stored so far."""
        number = stored = None
        # A file that cannot be read now may have the task under another number: it keeps that number there.
        with suppress(RegistryUnusableError), translated():
            number, stored = self._db.execute(_NUMBER_AND_BYTES, {"id": task_id}).fetchone()
        return self._new_number() if number is None else number, stored or 0

    def _new_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def drop_logs(self, logs: Logs) -> None:
        """Note that a task's output is removed."""
        self._change_logs(Logs(logs.id, 0, logs.ended_ns), logs.stored)

    def put_off_logs(self, logs: Logs, time_ns: int) -> None:
        """Count a task's output as if the task had ended at `time_ns`, so that it is no longer the oldest."""
        self._change_logs(Logs(logs.id, logs.stored, time_ns), logs.stored)

    def _change_logs(self, logs: Logs, bytes_before: int) -> None:
        self._recent.pop(logs.id, None)  # It says how much is stored.
        with translated():
            self._unstored.change_logs(logs)
        self.logs_bytes += logs.stored - bytes_before
        if logs.stored:
            self._oldest_end_ns = min(self._oldest_end_ns, logs.ended_ns)

    def commit(self, wait_s: float = 0.0) -> bool:
        """Store all changes, in one transaction; False when the file does not take them now (they stay).

        It waits for another program's lock no longer than `wait_s`.
        """
        if not self.has_unstored:
            return True
        try:
            with translated():
                self._wait_for_lock(wait_s)
                self._unstored.store()
        except RegistryUnusableError:
            self._roll_back()
            return False
        self._recent.clear()
        return True

    def _wait_for_lock(self, wait_s: float) -> None:
        if wait_s != self._lock_wait_s:
            self._db.execute(f"PRAGMA busy_timeout={round(wait_s * 1000)}")
            self._lock_wait_s = wait_s

    def _roll_back(self) -> None:
        # If even this fails, the next commit fails to begin and rolls back then.
        with suppress(RegistryUnusableError), translated():
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    # Questions

    def oldest_logs(self) -> Logs | None:
        """Return the output of the task that ended first; None when there is none of any."""
        with translated():
            found = self._db.execute(_OLDEST_LOGS, (self._oldest_end_ns,)).fetchone()
        oldest = None if found is None else Logs(*found)
        self._oldest_end_ns = NUMBER_LIMIT if oldest is None else oldest.ended_ns
        return oldest

    def get(self, task_id: str) -> Row | None:
        """Return a task by its whole id."""
        if (recent := self._recent.get(task_id)) is not None:
            return recent.row
        rows = self._select(_BY_ID, (task_id,))
        return rows[0] if rows else None

    def ids_from(self, prefix: str, limit: int, owner: str | None = None) -> list[str]:
        """Return up to `limit` ids that start with `prefix` (of the characters an id has), sorted.

        With an `owner`, only those of that one's tasks.
        """
        recent = self._recent.get(prefix)
        if recent is not None and owner in {None, recent.row.owner}:
            return [prefix]
        # "g" sorts behind every character of an id.
        values: dict[str, str | int] = {"first": prefix, "end": prefix + "g", "limit": limit}
        if owner is not None:
            values["owner"] = owner_key(owner)
        with translated():
            return [row[0] for row in self._db.execute(_IDS if owner is None else _OWNERS_IDS, values)]

    def page(self, after: int, limit: int, *, live_only: bool, owner: str | None = None) -> list[tuple[int, Row]]:
        """Return up to `limit` tasks accepted after the task `after` (0: from the first), each with its number.

        With an `owner`, only that one's.
        """
        values: dict[str, str | int] = {"after": after, "limit": limit}
        if owner is not None:
            values["owner"] = owner_key(owner)
        with translated():
            rows = self._db.execute(_PAGES[live_only, owner is not None], values).fetchall()
        return [(number, unpack_row(*columns)) for number, *columns in rows]

    def live(self) -> list[Row]:
        """Return the tasks that are not over."""
        return self._select(_LIVE, ())

    def all_ids(self) -> set[str]:
        """Return every id there is."""
        with translated():
            return {row[0] for row in self._db.execute("SELECT id FROM known_tasks")}

    def _select(self, query: str, values: tuple[str, ...]) -> list[Row]:
        with translated():
            rows = self._db.execute(query, values).fetchall()
        return [unpack_row(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._db.close()
