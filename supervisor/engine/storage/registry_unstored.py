"""What the registry's file does not have yet, as tables in memory beside it. Runs in: engine.

Owns: those tables; the connection is the registry's.

A change is written to the database `unstored`, in memory, and moved to the file by the next commit. All reading is of
the views `known_tasks` and `known_logs`: the file's rows, but for those that are changed, and the changed ones. So a
file that cannot be written takes nothing from what is known (docs/decisions/0020-registry-in-two-databases.md).
"""

from supervisor.engine.storage.registry_rows import Logs, StoredRow
from supervisor.engine.storage.registry_schema import Database, execute_all

__all__ = ["Unstored"]

# `number` is the rowid that the task has in the file, or will have. A task without a spec is removed; so are logs of 0
# bytes. For a view SQLite looks up each row of the file among the changed ones, and merges both in the order asked for.
# SQLite must make no temporary file: the disk may be full. With auto_vacuum the memory is free again after a commit.
_SCHEMA = """
PRAGMA temp_store=MEMORY;
ATTACH ':memory:' AS unstored;
PRAGMA unstored.auto_vacuum=FULL;
CREATE TABLE unstored.tasks (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    over INTEGER,
    spec TEXT,
    outcome TEXT,
    crc INTEGER,
    owner TEXT
);
CREATE TABLE unstored.logs (
    id TEXT NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL
);
CREATE INDEX unstored.oldest_logs ON logs (ended_ns) WHERE bytes > 0;
CREATE TEMP VIEW known_tasks AS
    SELECT rowid AS number, id, over, spec, outcome, crc, owner FROM main.tasks AS stored
        WHERE NOT EXISTS (SELECT 1 FROM unstored.tasks AS changed WHERE changed.id = stored.id)
    UNION ALL SELECT number, id, over, spec, outcome, crc, owner FROM unstored.tasks WHERE spec IS NOT NULL;
CREATE TEMP VIEW known_logs AS
    SELECT id, bytes, ended_ns FROM main.logs AS stored
        WHERE NOT EXISTS (SELECT 1 FROM unstored.logs AS changed WHERE changed.id = stored.id)
    UNION ALL SELECT id, bytes, ended_ns FROM unstored.logs WHERE bytes > 0;
"""

_CHANGE_TASK = """
INSERT INTO unstored.tasks (number, id, over, spec, outcome, crc, owner) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET over = excluded.over, spec = excluded.spec, outcome = excluded.outcome,
    crc = excluded.crc, owner = excluded.owner
"""
_CHANGE_LOGS = "INSERT OR REPLACE INTO unstored.logs (id, bytes, ended_ns) VALUES (?, ?, ?)"

_REMOVE_TASKS = "DELETE FROM main.tasks WHERE id IN (SELECT id FROM unstored.tasks WHERE spec IS NULL)"
_STORE_TASKS = """
INSERT INTO main.tasks (rowid, id, over, spec, outcome, crc, owner)
    SELECT number, id, over, spec, outcome, crc, owner FROM unstored.tasks WHERE spec IS NOT NULL ORDER BY number
    ON CONFLICT (id) DO UPDATE SET over = excluded.over, spec = excluded.spec, outcome = excluded.outcome,
    crc = excluded.crc, owner = excluded.owner
"""
_REMOVE_LOGS = "DELETE FROM main.logs WHERE id IN (SELECT id FROM unstored.logs WHERE bytes = 0)"
_STORE_LOGS = """
INSERT OR REPLACE INTO main.logs (id, bytes, ended_ns, proof)
    SELECT id, bytes, ended_ns, bytes + ended_ns FROM unstored.logs WHERE bytes > 0
"""
_FORGET_TASKS, _FORGET_LOGS = "DELETE FROM unstored.tasks", "DELETE FROM unstored.logs"
# The steps of a commit, and what follows each once the file has the changes.
_STEPS = {
    _REMOVE_TASKS: _FORGET_TASKS,
    _STORE_TASKS: _FORGET_TASKS,
    _REMOVE_LOGS: _FORGET_LOGS,
    _STORE_LOGS: _FORGET_LOGS,
}


class Unstored:
    """The tables in memory and the views, in a connection to the registry's file."""

    def __init__(self, database: Database) -> None:
        execute_all(database, _SCHEMA)
        self._database = database
        # The steps of a commit that have something to do. Most commits need one of four, and each costs every task.
        self._due: set[str] = set()

    def __repr__(self) -> str:
        return f"<Unstored, {len(self._due)} steps due>"

    def __bool__(self) -> bool:
        return bool(self._due)

    def change_task(self, number: int, columns: StoredRow) -> None:
        """Make a task's row, or change it. A row that is changed keeps its number, and so its place in lists."""
        self._database.execute(_CHANGE_TASK, (number, *columns))
        self._due.add(_STORE_TASKS)

    def remove_task(self, number: int, task_id: str) -> None:
        """Note that there is no such task any more."""
        self._database.execute(_CHANGE_TASK, (number, task_id, None, None, None, None, None))
        self._due.add(_REMOVE_TASKS)

    def change_logs(self, logs: Logs) -> None:
        """Note what is stored of a task's output, if there is any."""
        self._database.execute(_CHANGE_LOGS, (logs.id, logs.stored, logs.ended_ns))
        self._due.add(_STORE_LOGS if logs.stored else _REMOVE_LOGS)

    def store(self) -> None:
        """Move all changes to the file, in one transaction.

        Where that fails, the changes stay; the transaction may still be open.
        """
        due = [step for step in _STEPS if step in self._due]
        for statement in ("BEGIN IMMEDIATE", *due, "COMMIT"):
            self._database.execute(statement)
        for statement in {_STEPS[step] for step in due}:
            self._database.execute(statement)
        self._due.clear()
