"""The registry: an index over the tasks' directories. Runs in: engine. Owns: the only SQLite connection there is.

It is never the truth: writes are queued and committed together, a failed commit is tried again, and a file that is
damaged is moved aside and made anew from the directories.
"""

import json
import os
import sqlite3
from binascii import crc32
from collections.abc import Iterator
from contextlib import contextmanager

from supervisor.spool.records import JsonObject

__all__ = ["NewerRegistryError", "Registry", "RegistryCorruptError", "RegistryUnusableError", "Row", "set_aside"]

SCHEMA_VERSION = 1
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

_PAGE = "SELECT rowid, id, over, spec, outcome, crc FROM tasks WHERE rowid > ? ORDER BY rowid LIMIT ?"
# Goes through the partial index, so that the many tasks that are over cost nothing.
_LIVE_PAGE = "SELECT rowid, id, over, spec, outcome, crc FROM tasks WHERE over = 0 AND rowid > ? ORDER BY rowid LIMIT ?"


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
    """The open registry.

    Every method may raise RegistryUnusableError: try again later; or RegistryCorruptError: set the file aside and make
    it anew.
    """

    def __init__(self, path: str) -> None:
        self._queue: dict[str, Row | None] = {}
        with _translated():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=2.0)
            # What is damaged shows by its checksum; in the middle of a query it would look like any other failure.
            self._db.text_factory = lambda data: data.decode("utf-8", "replace")
            self._check_identity()
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            if self._db.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                raise RegistryCorruptError(path)

    def __repr__(self) -> str:
        return f"<Registry {len(self._queue)} queued>"

    def _check_identity(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if application == 0 and version == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id={_APPLICATION_ID}; "
                f"PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
        elif application != _APPLICATION_ID:
            raise RegistryCorruptError("not levity's registry")
        elif version > SCHEMA_VERSION:
            raise NewerRegistryError(f"schema {version}; this levity reads up to {SCHEMA_VERSION}")
        elif [column[1] for column in self._db.execute("PRAGMA table_info(tasks)")] != _COLUMNS:
            raise RegistryCorruptError("its table is missing or another one")

    def put(self, row: Row) -> None:
        """Remember a task, or how it ended."""
        self._queue[row.id] = row

    def remove(self, task_id: str) -> None:
        """Forget a task."""
        self._queue[task_id] = None

    @property
    def has_queue(self) -> bool:
        """Whether something is still to be committed."""
        return bool(self._queue)

    def commit(self) -> bool:
        """Write what is queued, in one transaction; False when the disk did not take it (it stays queued)."""
        if not self._queue:
            return True
        try:
            with _translated():
                self._write()
        except RegistryUnusableError:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            return False
        self._queue.clear()
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
        self._db.execute("COMMIT")

    def get(self, task_id: str) -> Row | None:
        """Return a task by its whole id."""
        if task_id in self._queue:
            return self._queue[task_id]
        rows = self._select("SELECT id, over, spec, outcome, crc FROM tasks WHERE id = ?", (task_id,))
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
        """Return up to `limit` tasks accepted after the cursor `after` (0: from the first), each with its cursor."""
        with _translated():
            rows = self._db.execute(_LIVE_PAGE if live_only else _PAGE, (after, limit)).fetchall()
        found = [(rowid, _row(*columns)) for rowid, *columns in rows]
        # What could not be committed yet is newer.
        return [(rowid, self._queue.get(row.id) or row) for rowid, row in found]

    def live(self) -> Iterator[Row]:
        """Yield the tasks that are not over."""
        yield from self._select("SELECT id, over, spec, outcome, crc FROM tasks WHERE over = 0", ())

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


def _row(task_id: str, over: int, spec: str, outcome: str | None, crc: int) -> Row:
    try:
        if _crc(task_id, over, spec, outcome) != crc:
            raise RegistryCorruptError(f"task {task_id}: the checksum is wrong")
        return Row(task_id, json.loads(spec), None if outcome is None else json.loads(outcome))
    except ValueError as error:
        raise RegistryCorruptError(f"task {task_id}: {error}") from error
