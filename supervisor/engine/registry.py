"""The registry: an index over the tasks' directories. Runs in: engine. Owns: the only SQLite connection there is.

It is never the truth: writes are queued and committed together, a failed commit is tried again, and a file that is
damaged is moved aside and made anew from the directories.
"""

import json
import os
import sqlite3
from binascii import crc32
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from heapq import heappop, heappush

from supervisor.spool.records import JsonObject

__all__ = [
    "Logs",
    "NewerRegistryError",
    "Registry",
    "RegistryCorruptError",
    "RegistryUnusableError",
    "Row",
    "set_aside",
]

SCHEMA_VERSION = 2
# Marks the file as levity's own ("levi"), see pragma application_id.
_APPLICATION_ID = 0x6C657669

_SCHEMA = """
CREATE TABLE tasks (
    id TEXT NOT NULL PRIMARY KEY,
    over INTEGER NOT NULL,
    spec TEXT NOT NULL,
    outcome TEXT,
    crc INTEGER NOT NULL
);
CREATE INDEX live_tasks ON tasks (id) WHERE over = 0;
"""
_COLUMNS = ["id", "over", "spec", "outcome", "crc"]

# Since version 2: what is stored of the output of tasks that are over. A task whose output was removed, or that had
# none, has no row. `proof` is bytes + ended_ns: it shows a flipped bit, for nothing may be removed because of one.
_LOGS_SCHEMA = """
CREATE TABLE logs (
    id TEXT NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL,
    proof INTEGER NOT NULL
);
CREATE INDEX oldest_logs ON logs (ended_ns);
"""
_LOGS_COLUMNS = ["id", "bytes", "ended_ns", "proof"]
_OLDEST_LOGS = "SELECT id, bytes, ended_ns FROM logs WHERE ended_ns >= ? ORDER BY ended_ns"
# The sum of two such numbers is one that SQLite can hold.
_NUMBER_LIMIT = 2**62

_PAGE = "SELECT rowid, id, over, spec, outcome, crc FROM tasks WHERE rowid > ? ORDER BY rowid LIMIT ?"
# Goes through the partial index, so that the many tasks that are over cost nothing.
_LIVE_PAGE = "SELECT rowid, id, over, spec, outcome, crc FROM tasks WHERE over = 0 AND rowid > ? ORDER BY rowid LIMIT ?"

_BY_ID = "SELECT id, over, spec, outcome, crc FROM tasks WHERE id = ?"
# Cursors from here on are those of rows that have none in the file.
_UNSTORED = 2**62


class RegistryCorruptError(Exception):
    """The file is damaged, or no registry at all."""


class RegistryUnusableError(Exception):
    """The host does not let us use the file now (no space, no permission, a stranger's lock); it is none the worse."""


class NewerRegistryError(Exception):
    """The file was written by a newer levity."""


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what SQLite raises into what it means for the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RegistryUnusableError(str(error)) from error
    except sqlite3.DatabaseError as error:
        raise RegistryCorruptError(str(error)) from error


class Row:
    """What the registry holds of one task: its spec, and its exit record once it is over."""

    __slots__ = ("id", "outcome", "spec")

    def __init__(self, id: str, spec: JsonObject, outcome: JsonObject | None) -> None:
        self.id = id
        self.spec = spec
        self.outcome = outcome


class Logs:
    """How many bytes of the output of a task that is over are stored, and when it ended."""

    __slots__ = ("ended_ns", "id", "stored")

    def __init__(self, id: str, stored: int, ended_ns: int) -> None:
        self.id = id
        self.stored = stored
        self.ended_ns = ended_ns


def set_aside(path: str) -> str:
    """Move a damaged registry and what belongs to it out of the way; return its new name."""
    number = 1
    while os.path.exists(aside := f"{path}.corrupt-{number}"):
        number += 1
    for suffix in ("", "-wal", "-shm"):
        try:
            os.rename(path + suffix, aside + suffix)
        except FileNotFoundError:
            pass
    return aside


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
        with _translated(), ExitStack() as undo:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=2.0)
            # Not left to the garbage collector: closing removes the write-ahead log by its name, which by then may be
            # that of the next registry.
            undo.callback(self._db.close)
            # What is damaged shows by its checksum; in the middle of a query it would look like any other failure.
            self._db.text_factory = lambda data: data.decode("utf-8", "replace")
            self._check_identity()
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            if self._db.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                raise RegistryCorruptError(path)
            self.logs_bytes = self._sum_logs()
            undo.pop_all()

    def __repr__(self) -> str:
        return f"<Registry {len(self._queue)} queued>"

    def _check_identity(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if application == 0 and version == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._db.executescript(
                f"BEGIN; {_SCHEMA} {_LOGS_SCHEMA} PRAGMA application_id={_APPLICATION_ID}; "
                f"PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
        elif application != _APPLICATION_ID:
            raise RegistryCorruptError("not levity's registry")
        elif version > SCHEMA_VERSION:
            raise NewerRegistryError(f"schema {version}; this levity reads up to {SCHEMA_VERSION}")
        elif self._columns("tasks") != _COLUMNS:
            raise RegistryCorruptError("its table is missing or another one")
        elif version < SCHEMA_VERSION:
            self._upgrade()
        elif self._columns("logs") != _LOGS_COLUMNS:
            raise RegistryCorruptError("its table of logs is missing or another one")

    def _columns(self, table: str) -> list[str]:
        return [column[1] for column in self._db.execute(f"PRAGMA table_info({table})")]

    def _upgrade(self) -> None:
        """Make version 2 of version 1, which kept no account of logs and never removed any: all or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DROP TABLE IF EXISTS logs")
        for statement in _LOGS_SCHEMA.strip().removesuffix(";").split(";"):
            self._db.execute(statement)
        for columns in self._db.execute("SELECT id, over, spec, outcome, crc FROM tasks WHERE over = 1"):
            row = _row(*columns)
            self._write_logs(row.id, _logs_of(row.id, row.outcome or {}))
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def _sum_logs(self) -> int:
        total, wrong = self._db.execute("SELECT total(bytes), total(bytes + ended_ns != proof) FROM logs").fetchone()
        if wrong:
            raise RegistryCorruptError("its account of logs is wrong")
        return int(total)

    def put(self, row: Row, logs_bytes: int | None = None) -> None:
        """Remember a task; or how it ended, and that its output is stored.

        `logs_bytes` is how much that is, where somebody has looked; otherwise its exit record says so.
        """
        self._queue[row.id] = row
        if row.outcome is not None:
            logs = _logs_of(row.id, row.outcome)
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
        with _translated(), closing(self._db.execute(_OLDEST_LOGS, (self._queued_before_ns,))) as rows:
            # What is queued is newer.
            row = next((row for row in rows if row[0] not in self._logs_queue), None)
        stored = None if row is None else Logs(*row)
        self._queued_before_ns = _NUMBER_LIMIT if stored is None else stored.ended_ns
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
            with _translated():
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
                continue
            over, spec = int(row.outcome is not None), json.dumps(row.spec)
            outcome = json.dumps(row.outcome) if over else None
            self._db.execute(
                "INSERT INTO tasks (id, over, spec, outcome, crc) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET "
                "over = excluded.over, spec = excluded.spec, outcome = excluded.outcome, crc = excluded.crc",
                (task_id, over, spec, outcome, _crc(task_id, over, spec, outcome)),
            )
        for task_id, logs in self._logs_queue.items():
            self._write_logs(task_id, logs)
        self._db.execute("COMMIT")

    def _write_logs(self, task_id: str, logs: Logs | None) -> None:
        if logs is None or not logs.stored:
            self._db.execute("DELETE FROM logs WHERE id = ?", (task_id,))
        else:
            statement = "INSERT OR REPLACE INTO logs (id, bytes, ended_ns, proof) VALUES (?, ?, ?, ?)"
            self._db.execute(statement, (task_id, logs.stored, logs.ended_ns, logs.stored + logs.ended_ns))

    def get(self, task_id: str) -> Row | None:
        """Return a task by its whole id."""
        if task_id in self._queue:
            return self._queue[task_id]
        rows = self._select(_BY_ID, (task_id,))
        return rows[0] if rows else None

    def ids_from(self, prefix: str, limit: int) -> list[str]:
        """Return up to `limit` ids that start with `prefix` (of the characters an id has)."""
        found = {row[0] for row in self._fetch("SELECT id FROM tasks WHERE id >= ? AND id < ? LIMIT ?", prefix, limit)}
        for task_id, row in self._queue.items():
            if task_id.startswith(prefix):
                (found.discard if row is None else found.add)(task_id)
        return sorted(found)[:limit]

    def _fetch(self, query: str, prefix: str, limit: int) -> list[tuple[str]]:
        with _translated():
            # "g" sorts behind every character of an id.
            return self._db.execute(query, (prefix, prefix + "g", limit)).fetchall()

    def page(self, after: int, limit: int, *, live_only: bool) -> list[tuple[int, Row]]:
        """Return up to `limit` tasks accepted after the cursor `after` (0: from the first), each with its cursor.

        With `live_only` one that has ended may be among them, where the disk did not take its end yet.
        """
        with _translated():
            rows = self._db.execute(_LIVE_PAGE if live_only else _PAGE, (after, limit)).fetchall()
        found = [(rowid, _row(*columns)) for rowid, *columns in rows]
        # What could not be committed yet is newer.
        page = [(rowid, self._queue.get(row.id) or row) for rowid, row in found]
        return page + self._unstored(after, limit - len(page))

    def _unstored(self, after: int, limit: int) -> list[tuple[int, Row]]:
        """Return the tasks of which the disk did not take anything yet, as the end of the last page."""
        queued = [row for row in self._queue.values() if row is not None]
        new = [row for row in queued if not self._select(_BY_ID, (row.id,))]
        first = max(0, after - _UNSTORED)
        return [(_UNSTORED + first + number, row) for number, row in enumerate(new[first : first + limit], 1)]

    def live(self) -> list[Row]:
        """Return the tasks that are not over."""
        stored = self._select("SELECT id, over, spec, outcome, crc FROM tasks WHERE over = 0", ())
        queued = [row for row in self._queue.values() if row is not None and row.outcome is None]
        return [row for row in stored if row.id not in self._queue] + queued

    def all_ids(self) -> set[str]:
        """Return every id there is."""
        with _translated():
            return {row[0] for row in self._db.execute("SELECT id FROM tasks")}

    def _select(self, query: str, values: tuple[str, ...]) -> list[Row]:
        with _translated():
            rows = self._db.execute(query, values).fetchall()
        return [_row(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _crc(task_id: str, over: int, spec: str, outcome: str | None) -> int:
    """Return what shows a flipped bit in a row: SQLite checks its structure, not its contents."""
    return crc32(f"{task_id} {over} {spec} {outcome}".encode())


def _logs_of(task_id: str, outcome: JsonObject) -> Logs:
    """Return what is stored of the output of a task that is over, by its exit record."""
    stored = outcome.get("stored_bytes")
    if stored is None:  # Written before there was this key, and before anything was rotated away.
        stored = _number(outcome.get("stdout_bytes")) + _number(outcome.get("stderr_bytes"))
    return Logs(task_id, _number(stored), _number(outcome.get("ended_ns")))


def _number(value: object) -> int:
    """Return a number of a record's; 0 for what can be none of levity's."""
    return value if isinstance(value, int) and 0 <= value < _NUMBER_LIMIT else 0


def _row(task_id: str, over: int, spec: str, outcome: str | None, crc: int) -> Row:
    try:
        if _crc(task_id, over, spec, outcome) != crc:
            raise RegistryCorruptError(f"task {task_id}: the checksum is wrong")
        return Row(task_id, json.loads(spec), None if outcome is None else json.loads(outcome))
    except ValueError as error:
        raise RegistryCorruptError(f"task {task_id}: {error}") from error
