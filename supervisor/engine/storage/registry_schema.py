"""The registry's file: what the present version has in it, and what SQLite's errors mean. Runs in: engine.

Owns: nothing: the connection is the registry's.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from supervisor.engine.storage.registry_rows import RegistryCorruptError

__all__ = [
    "APPLICATION_ID",
    "COLUMNS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Database",
    "NewerRegistryError",
    "RegistryUnusableError",
    "connect",
    "execute_all",
    "translated",
]

Database = sqlite3.Connection

# Marks the file as levity's own ("levi"), see pragma application_id.
APPLICATION_ID = 0x6C657669

# A change of this is a new version, with a migration to it (registry_migrations.py).
SCHEMA_VERSION = 3

# By the indices, a query costs nothing for tasks that it does not ask for: those that are over, those of other owners.
# Every entry of an index ends with the rowid, by which lists are ordered; with the id before it, it would not help.
#
# `logs` has what is stored of the output of tasks that are over. A task whose output was removed, or that had none, has
# no row. `proof` is bytes + ended_ns: it shows a flipped bit, for nothing may be removed because of one.
SCHEMA = """
CREATE TABLE tasks (
    id TEXT NOT NULL PRIMARY KEY,
    over INTEGER NOT NULL,
    spec TEXT NOT NULL,
    outcome TEXT,
    crc INTEGER NOT NULL,
    owner TEXT NOT NULL DEFAULT ''
);
CREATE INDEX live_tasks ON tasks (over) WHERE over = 0;
CREATE INDEX owners_tasks ON tasks (owner);
CREATE INDEX owners_live_tasks ON tasks (owner) WHERE over = 0;
CREATE INDEX owners_ids ON tasks (owner, id);
CREATE TABLE logs (
    id TEXT NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL,
    proof INTEGER NOT NULL
);
CREATE INDEX oldest_logs ON logs (ended_ns);
"""

# The columns of each version's tables, oldest version first.
COLUMNS = {
    1: {"tasks": ["id", "over", "spec", "outcome", "crc"]},
    2: {"tasks": ["id", "over", "spec", "outcome", "crc"], "logs": ["id", "bytes", "ended_ns", "proof"]},
    3: {"tasks": ["id", "over", "spec", "outcome", "crc", "owner"], "logs": ["id", "bytes", "ended_ns", "proof"]},
}

# For an engine before this one that is still ending, and while an older file is migrated.
_OPENING_TIMEOUT_S = 2.0


class RegistryUnusableError(Exception):
    """The file is whole but cannot be used now: no space, no permission, or another program's lock."""


class NewerRegistryError(Exception):
    """The file was written by a newer levity."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn an error of SQLite into what it means for the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RegistryUnusableError(str(error)) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # SQLite's messages quote damaged text, and Python decodes them strictly.
        raise RegistryCorruptError(str(error)) from error


def connect(path: str) -> Database:
    """Return a connection on which transactions begin and end only by statements."""
    return sqlite3.connect(path, isolation_level=None, timeout=_OPENING_TIMEOUT_S)


def execute_all(database: Database, schema: str) -> None:
    """Execute statements that end with semicolons; executescript() would commit first."""
    for statement in schema.strip().removesuffix(";").split(";"):
        database.execute(statement)
