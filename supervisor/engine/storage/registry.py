"""The registry: an index over the tasks' directories. Runs in: engine. Owns: the only SQLite connection there is.

It is never the truth: writes are queued and committed together, a failed commit is tried again, and a file that is
damaged is moved aside and made anew from the directories.
"""

from contextlib import ExitStack, closing
from heapq import heappop, heappush

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
from supervisor.engine.storage.registry_schema import (
    NewerRegistryError,
    RegistryUnusableError,
    open_file,
    set_aside,
    translated,
    write_logs,
    write_row,
)

__all__ = [
    "Logs",
    "NewerRegistryError",
    "Registry",
    "RegistryCorruptError",
    "RegistryUnusableError",
    "Row",
    "set_aside",
]

_BY_ID = "SELECT id, over, spec, outcome, crc, owner FROM tasks WHERE id = ?"
_LIVE = "SELECT id, over, spec, outcome, crc, owner FROM tasks WHERE over = 0"
_OLDEST_LOGS = "SELECT id, bytes, ended_ns FROM logs WHERE ended_ns >= ? ORDER BY ended_ns"

# Each of these goes through an index, so that what is not asked for (tasks that are over, those of other owners) costs
# nothing, however much of it there is.
_PAGES = {
    # By live_only, and whether it is about one owner.
    (False, False): (
        "SELECT rowid, id, over, spec, outcome, crc, owner FROM tasks WHERE rowid > :after ORDER BY rowid LIMIT :limit"
    ),
    (True, False): (
        "SELECT rowid, id, over, spec, outcome, crc, owner FROM tasks WHERE over = 0 AND rowid > :after "
        "ORDER BY rowid LIMIT :limit"
    ),
    (False, True): (
        "SELECT rowid, id, over, spec, outcome, crc, owner FROM tasks WHERE owner = :owner AND rowid > :after "
        "ORDER BY rowid LIMIT :limit"
    ),
    (True, True): (
        "SELECT rowid, id, over, spec, outcome, crc, owner FROM tasks WHERE over = 0 AND owner = :owner "
        "AND rowid > :after ORDER BY rowid LIMIT :limit"
    ),
}
_IDS = "SELECT id FROM tasks WHERE id >= :first AND id < :end ORDER BY id LIMIT :limit"
_OWNERS_IDS = "SELECT id FROM tasks WHERE owner = :owner AND id >= :first AND id < :end ORDER BY id LIMIT :limit"

# Cursors from here on are those of rows that have none in the file.
_UNSTORED = 2**62


class Registry:
    """The open registry. `logs_bytes` is how much of the output of tasks that are over is stored, all together.

    Every method may raise RegistryUnusableError: try again later; or RegistryCorruptError: set the file aside and make
    it anew.
    """

    def __init__(self, path: str) -> None:
        self._queue: dict[str, Row | None] = {}
        self._logs_queue: dict[str, Logs | None] = {}
        # While the disk takes nothing all logs may be queued, and finding the oldest shall cost no more for it. So here
        # are end and id of those queued, also of some that were; and before which end the file has no others.
        self._queued_ends: list[tuple[int, str]] = []
        self._queued_before_ns = 0
        with ExitStack() as undo:
            self._db = open_file(path)
            undo.callback(self._db.close)
            self.logs_bytes = self._sum_logs()
            undo.pop_all()

    def __repr__(self) -> str:
        return f"<Registry {len(self._queue)} queued>"

    def _sum_logs(self) -> int:
        with translated():
            sums = "SELECT total(bytes), total(bytes + ended_ns != proof) FROM logs"
            total, wrong = self._db.execute(sums).fetchone()
        if wrong:
            raise RegistryCorruptError("its account of logs is wrong")
        return int(total)

    def put(self, row: Row, logs_bytes: int | None = None) -> None:
        """Remember a task; or how it ended, and that its output is stored.

        `logs_bytes` is how much that is, where somebody has looked; otherwise its exit record says so.
        """
        self._queue[row.id] = row
        if row.outcome is not None:
            logs = logs_of(row.id, row.outcome)
            if logs_bytes is not None:
                logs = Logs(row.id, logs_bytes, logs.ended_ns)
            before = self._logs_queue.get(row.id)
            self.logs_bytes += logs.stored - (before.stored if before else 0)
            self._put_logs(logs)

    def _put_logs(self, logs: Logs) -> None:
        self._logs_queue[logs.id] = logs
        if logs.stored:
            heappush(self._queued_ends, (logs.ended_ns, logs.id))

    def remove(self, task_id: str) -> None:
        """Forget a task, of which there is no output."""
        self._queue[task_id] = None

    def oldest_logs(self) -> Logs | None:
        """Return the output of the task that ended first; None when there is none of any."""
        with translated(), closing(self._db.execute(_OLDEST_LOGS, (self._queued_before_ns,))) as rows:
            # What is queued is newer.
            row = next((row for row in rows if row[0] not in self._logs_queue), None)
        stored = None if row is None else Logs(*row)
        self._queued_before_ns = NUMBER_LIMIT if stored is None else stored.ended_ns
        found = [logs for logs in (self._oldest_queued(), stored) if logs is not None]
        return min(found, key=lambda logs: logs.ended_ns, default=None)

    def _oldest_queued(self) -> Logs | None:
        ends = self._queued_ends
        while ends:
            logs = self._logs_queue[ends[0][1]]
            if logs is not None and logs.stored and logs.ended_ns == ends[0][0]:
                return logs
            heappop(ends)
        return None

    def drop_logs(self, logs: Logs) -> None:
        """Note that a task's output is removed."""
        self.logs_bytes -= logs.stored
        self._logs_queue[logs.id] = None

    def put_off_logs(self, logs: Logs, time_ns: int) -> None:
        """Have a task's output taken for that of one that ended at `time_ns`: it is not the oldest any more."""
        self._put_logs(Logs(logs.id, logs.stored, time_ns))

    @property
    def has_queue(self) -> bool:
        """Whether something is still to be committed."""
        return bool(self._queue) or bool(self._logs_queue)

    def commit(self) -> bool:
        """Write what is queued, in one transaction; False when the disk did not take it (it stays queued)."""
        if not self.has_queue:
            return True
        try:
            with translated():
                self._write()
        except RegistryUnusableError:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            return False
        self._queue.clear()
        self._logs_queue.clear()
        self._queued_ends.clear()
        self._queued_before_ns = 0
        return True

    def _write(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for task_id, row in self._queue.items():
            if row is None:
                self._db.execute("DELETE FROM tasks WHERE id = ?", (task_id,))
            else:
                write_row(self._db, pack_row(row))
        for task_id, logs in self._logs_queue.items():
            write_logs(self._db, task_id, logs)
        self._db.execute("COMMIT")

    def get(self, task_id: str) -> Row | None:
        """Return a task by its whole id."""
        if task_id in self._queue:
            return self._queue[task_id]
        rows = self._select(_BY_ID, (task_id,))
        return rows[0] if rows else None

    def ids_from(self, prefix: str, limit: int, owner: str | None = None) -> list[str]:
        """Return up to `limit` ids that start with `prefix` (of the characters an id has).

        With an `owner`, only those of that one's tasks.
        """
        removed = sum(row is None for row in self._queue.values())
        # "g" sorts behind every character of an id.
        values: dict[str, str | int] = {"first": prefix, "end": prefix + "g", "limit": limit + removed}
        if owner is not None:
            values["owner"] = owner_key(owner)
        with translated():
            found = {row[0] for row in self._db.execute(_IDS if owner is None else _OWNERS_IDS, values)}
        for task_id, row in self._queue.items():
            if row is None:
                found.discard(task_id)
            elif task_id.startswith(prefix) and owner in {None, row.owner}:
                found.add(task_id)
        return sorted(found)[:limit]

    def page(self, after: int, limit: int, *, live_only: bool, owner: str | None = None) -> list[tuple[int, Row]]:
        """Return up to `limit` tasks accepted after the cursor `after` (0: from the first), each with its cursor.

        With an `owner`, only that one's; whoever goes on from a cursor names the same. With `live_only` one that has
        ended may be among them, where the disk did not take its end yet.
        """
        values: dict[str, str | int] = {"after": after, "limit": limit}
        if owner is not None:
            values["owner"] = owner_key(owner)
        with translated():
            rows = self._db.execute(_PAGES[live_only, owner is not None], values).fetchall()
        found = [(rowid, unpack_row(*columns)) for rowid, *columns in rows]
        # What could not be committed yet is newer.
        page = [(rowid, self._queue.get(row.id) or row) for rowid, row in found]
        return page + self._unstored(after, limit - len(page), owner)

    def _unstored(self, after: int, limit: int, owner: str | None) -> list[tuple[int, Row]]:
        """Return the tasks of which the disk did not take anything yet, as the end of the last page."""
        queued = [row for row in self._queue.values() if row is not None and owner in {None, row.owner}]
        new = [row for row in queued if not self._select(_BY_ID, (row.id,))]
        first = max(0, after - _UNSTORED)
        return [(_UNSTORED + first + number, row) for number, row in enumerate(new[first : first + limit], 1)]

    def live(self) -> list[Row]:
        """Return the tasks that are not over."""
        stored = self._select(_LIVE, ())
        queued = [row for row in self._queue.values() if row is not None and row.outcome is None]
        return [row for row in stored if row.id not in self._queue] + queued

    def all_ids(self) -> set[str]:
        """Return every id there is."""
        with translated():
            return {row[0] for row in self._db.execute("SELECT id FROM tasks")}

    def _select(self, query: str, values: tuple[str, ...]) -> list[Row]:
        with translated():
            rows = self._db.execute(query, values).fetchall()
        return [unpack_row(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._db.close()
