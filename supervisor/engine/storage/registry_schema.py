"""The registry's file: its schema, and how it is opened, checked and brought up to date. Runs in: engine.

Owns: nothing: the connection is the registry's.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from supervisor.engine.storage.registry_rows import (
    Logs,
    RegistryCorruptError,
    StoredRow,
    logs_of,
    owner_key,
    unpack_row,
)

__all__ = [
    "SCHEMA_VERSION",
    "Database",
    "NewerRegistryError",
    "RegistryUnusableError",
    "open_file",
    "set_aside",
    "translated",
    "write_logs",
    "write_row",
]

Database = sqlite3.Connection

SCHEMA_VERSION = 3
# Marks the file as levity's own ("levi"), see pragma application_id.
_APPLICATION_ID = 0x6C657669

_TASKS_SCHEMA = """
CREATE TABLE tasks (
    id TEXT NOT NULL PRIMARY KEY,
    over INTEGER NOT NULL,
    spec TEXT NOT NULL,
    outcome TEXT,
    crc INTEGER NOT NULL,
    owner TEXT NOT NULL DEFAULT ''
);
"""
_COLUMNS = ["id", "over", "spec", "outcome", "crc", "owner"]
_COLUMNS_BEFORE_3 = _COLUMNS[:5]

# Since version 3: with these, what is not asked for costs nothing: tasks that are over, those of other owners. Every
# entry of an index ends with the rowid, by which lists are ordered: one that has an id before it is of no use for them.
_INDICES = """
CREATE INDEX live_tasks ON tasks (over) WHERE over = 0;
CREATE INDEX owners_tasks ON tasks (owner);
CREATE INDEX owners_live_tasks ON tasks (owner) WHERE over = 0;
CREATE INDEX owners_ids ON tasks (owner, id);
"""

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


class RegistryUnusableError(Exception):
    """The host does not let us use the file now (no space, no permission, a stranger's lock); it is none the worse."""


class NewerRegistryError(Exception):
    """The file was written by a newer levity."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn what SQLite raises into what it means for the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RegistryUnusableError(str(error)) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # Python decodes SQLite's messages strictly, and they quote what is damaged.
        raise RegistryCorruptError(str(error)) from error


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


def open_file(path: str) -> Database:
    """Open the file, making it if there is none, and of the present version if it is an older one.

    RegistryCorruptError, NewerRegistryError, or RegistryUnusableError.
    """
    with translated(), ExitStack() as undo:
        database = sqlite3.connect(path, isolation_level=None, timeout=2.0)
        # Not left to the garbage collector: closing removes the write-ahead log by its name, which by then may be
        # that of the next registry.
        undo.callback(database.close)
        # What is damaged shows by its checksum; in the middle of a query it would look like any other failure.
        database.text_factory = lambda data: data.decode("utf-8", "replace")
        _check_identity(database)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        if database.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            raise RegistryCorruptError(path)
        undo.pop_all()
    return database


def _check_identity(database: Database) -> None:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if application == 0 and version == 0 and not database.execute("SELECT 1 FROM sqlite_master").fetchone():
        database.executescript(
            f"BEGIN; {_TASKS_SCHEMA} {_INDICES} {_LOGS_SCHEMA} PRAGMA application_id={_APPLICATION_ID}; "
            f"PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
        )
    elif application != _APPLICATION_ID:
        raise RegistryCorruptError("not levity's registry")
    elif version > SCHEMA_VERSION:
        raise NewerRegistryError(f"schema {version}; this levity reads up to {SCHEMA_VERSION}")
    elif _columns(database, "tasks") != (_COLUMNS if version == SCHEMA_VERSION else _COLUMNS_BEFORE_3):
        raise RegistryCorruptError("its table is missing or another one")
    elif version > 1 and _columns(database, "logs") != _LOGS_COLUMNS:
        raise RegistryCorruptError("its table of logs is missing or another one")
    elif version < SCHEMA_VERSION:
        _upgrade(database, version)


def _columns(database: Database, table: str) -> list[str]:
    return [column[1] for column in database.execute(f"PRAGMA table_info({table})")]


def _upgrade(database: Database, version: int) -> None:
    """Make an older file one of the present version, all or nothing: whoever closes it undoes what is not committed."""
    database.execute("BEGIN IMMEDIATE")
    if version < 2:
        _add_logs(database)
    _add_owners(database)
    database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    database.execute("COMMIT")


def _add_logs(database: Database) -> None:
    """Version 1 kept no account of logs and never removed any."""
    database.execute("DROP TABLE IF EXISTS logs")
    _execute_all(database, _LOGS_SCHEMA)
    for columns in database.execute("SELECT id, over, spec, outcome, crc FROM tasks WHERE over = 1"):
        row = unpack_row(*columns)
        if row.outcome is not None:
            write_logs(database, row.id, logs_of(row.id, row.outcome))


def _add_owners(database: Database) -> None:
    """Version 2 had no owners. Should a spec name one all the same, it counts."""
    owners: list[tuple[str, str]] = []
    for columns in database.execute("SELECT id, over, spec, outcome, crc FROM tasks"):
        row = unpack_row(*columns)
        if row.owner:
            owners.append((owner_key(row.owner), row.id))
    database.execute("ALTER TABLE tasks ADD COLUMN owner TEXT NOT NULL DEFAULT ''")
    database.executemany("UPDATE tasks SET owner = ? WHERE id = ?", owners)
    database.execute("DROP INDEX IF EXISTS live_tasks")
    _execute_all(database, _INDICES)


def _execute_all(database: Database, schema: str) -> None:
    """Do what executescript() does, without its commit."""
    for statement in schema.strip().removesuffix(";").split(";"):
        database.execute(statement)


def write_row(database: Database, columns: StoredRow) -> None:
    """Make a task's row, or change it. A row that is changed keeps its place in lists."""
    database.execute(
        "INSERT INTO tasks (id, over, spec, outcome, crc, owner) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET over = excluded.over, spec = excluded.spec, outcome = excluded.outcome, "
        "crc = excluded.crc, owner = excluded.owner",
        columns,
    )


def write_logs(database: Database, task_id: str, logs: Logs | None) -> None:
    """Note what is stored of a task's output, if there is any."""
    if logs is None or not logs.stored:
        database.execute("DELETE FROM logs WHERE id = ?", (task_id,))
    else:
        statement = "INSERT OR REPLACE INTO logs (id, bytes, ended_ns, proof) VALUES (?, ?, ?, ?)"
        database.execute(statement, (task_id, logs.stored, logs.ended_ns, logs.stored + logs.ended_ns))
