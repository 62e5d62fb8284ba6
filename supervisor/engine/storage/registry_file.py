"""Open the registry's file: check it, migrate it, move it aside. Runs in: engine.

Owns: nothing: the connection is the registry's.
"""

import os
from contextlib import ExitStack

from supervisor.engine.storage.registry_migrations import migrate
from supervisor.engine.storage.registry_rows import RegistryCorruptError
from supervisor.engine.storage.registry_schema import (
    APPLICATION_ID,
    COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    Database,
    NewerRegistryError,
    connect,
    translated,
)

__all__ = ["open_file", "set_aside"]


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
        database = connect(path)
        # At once, and not by the garbage collector: closing removes the write-ahead log by its name, which later may be
        # that of the next registry.
        undo.callback(database.close)
        # Damaged text shows by its checksum. An error while SQLite reads it would look like any other failure.
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
            f"BEGIN; {SCHEMA} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
        )
    elif application != APPLICATION_ID:
        raise RegistryCorruptError("not levity's registry")
    elif version > SCHEMA_VERSION:
        raise NewerRegistryError(f"schema {version}; this levity reads up to {SCHEMA_VERSION}")
    else:
        _check_tables(database, version)
        if version < SCHEMA_VERSION:
            migrate(database, version)


def _check_tables(database: Database, version: int) -> None:
    if version not in COLUMNS:
        raise RegistryCorruptError(f"there is no schema {version}")
    for table, columns in COLUMNS[version].items():
        if [column[1] for column in database.execute(f"PRAGMA table_info({table})")] != columns:
            raise RegistryCorruptError(f"its table of {table} is missing or another one")
