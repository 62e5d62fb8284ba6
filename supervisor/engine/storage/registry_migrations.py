"""How an older registry becomes one of the present version. Runs in: engine. Owns: nothing.

A migration is frozen once it is released: it has its own SQL, and uses no schema but that of its version.
"""

from collections.abc import Callable

from supervisor.engine.storage.registry_rows import logs_of, owner_key, unpack_row
from supervisor.engine.storage.registry_schema import Database, execute_all

__all__ = ["MIGRATIONS", "migrate"]


def migrate(database: Database, version: int) -> None:
    """Make an older file one of the present version, all or nothing: closing undoes what is not committed."""
    database.execute("BEGIN IMMEDIATE")
    for to_version, migration in MIGRATIONS:
        if version < to_version:
            migration(database)
            database.execute(f"PRAGMA user_version={to_version}")
    database.execute("COMMIT")


def _add_logs(database: Database) -> None:
    """Version 1 kept no account of logs and never removed any."""
    database.execute("DROP TABLE IF EXISTS logs")
    execute_all(
        database,
        """
        CREATE TABLE logs (
            id TEXT NOT NULL PRIMARY KEY,
            bytes INTEGER NOT NULL,
            ended_ns INTEGER NOT NULL,
            proof INTEGER NOT NULL
        );
        CREATE INDEX oldest_logs ON logs (ended_ns);
        """,
    )
    for columns in database.execute("SELECT id, over, spec, outcome, crc FROM tasks WHERE over = 1"):
        row = unpack_row(*columns)
        logs = None if row.outcome is None else logs_of(row.id, row.outcome)
        if logs is not None and logs.stored:
            values = logs.id, logs.stored, logs.ended_ns, logs.stored + logs.ended_ns
            database.execute("INSERT INTO logs (id, bytes, ended_ns, proof) VALUES (?, ?, ?, ?)", values)


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
    execute_all(
        database,
        """
        CREATE INDEX live_tasks ON tasks (over) WHERE over = 0;
        CREATE INDEX owners_tasks ON tasks (owner);
        CREATE INDEX owners_live_tasks ON tasks (owner) WHERE over = 0;
        CREATE INDEX owners_ids ON tasks (owner, id);
        """,
    )


# The version that each leads to, from the one before it.
MIGRATIONS: list[tuple[int, Callable[[Database], None]]] = [(2, _add_logs), (3, _add_owners)]
