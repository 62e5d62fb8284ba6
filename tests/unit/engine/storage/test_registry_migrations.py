"""Files of older versions become one of the present version, all or nothing; a newer one is left alone.

tests/data/registry-vN.sql is such a file of each version, with the same four tasks.
"""

import json
import sqlite3
from binascii import crc32
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from supervisor.engine.storage.registry import NewerRegistryError, Registry, RegistryCorruptError
from supervisor.engine.storage.registry_migrations import MIGRATIONS
from supervisor.engine.storage.registry_schema import COLUMNS, SCHEMA_VERSION
from tests.support.paths import ROOT
from tests.support.registry import execute, walk

VERSIONS = range(1, SCHEMA_VERSION + 1)
FROZEN = {version: (ROOT / "tests" / "data" / f"registry-v{version}.sql").read_text() for version in VERSIONS}
# The tasks of those files, in the order of their start. The second and the last are live; the last is alice's.
OLD_IDS = [f"{number:08x}-5555-4555-8555-555555555555" for number in (7, 3, 9, 1)]

each_version = pytest.mark.parametrize("version", VERSIONS)
each_older_version = pytest.mark.parametrize("version", VERSIONS[:-1])


def make_old(registry_path: str, version: int) -> None:
    with closing(sqlite3.connect(registry_path, isolation_level=None)) as database:
        database.executescript(FROZEN[version])


def version_of(registry_path: str) -> int:
    with closing(sqlite3.connect(registry_path)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def schema_of(registry_path: str) -> set[tuple[str, str]]:
    """Return names and statements of the indices, and the columns: what a schema is but for its spelling."""
    with closing(sqlite3.connect(registry_path)) as database:
        indices = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        found = {(name, sql) for name, sql in indices}
        for table in COLUMNS[SCHEMA_VERSION]:
            columns = database.execute(f"PRAGMA table_info({table})")
            found |= {(f"{table}.{name}", f"{kind} {more}") for _n, name, kind, *more in columns}
    return found


def test_there_is_a_migration_to_every_version_and_in_their_order() -> None:
    assert [version for version, _migration in MIGRATIONS] == list(VERSIONS[1:])
    assert list(COLUMNS) == list(VERSIONS)


@pytest.mark.parametrize(
    ("migration", "before", "after"),
    [(step, *pair) for (_to, step), pair in zip(MIGRATIONS, pairwise(VERSIONS), strict=True)],
)
def test_a_migration_makes_the_next_version_s_tables(
    registry_path: str, migration: Any, before: int, after: int
) -> None:
    make_old(registry_path, before)
    with closing(sqlite3.connect(registry_path, isolation_level=None)) as database:
        migration(database)
        for table, columns in COLUMNS[after].items():
            assert [column[1] for column in database.execute(f"PRAGMA table_info({table})")] == columns
        rows = database.execute("SELECT id FROM tasks ORDER BY rowid").fetchall()
    assert [task_id for (task_id,) in rows] == OLD_IDS


@each_version
def test_a_file_of_each_version_is_read(registry_path: str, tmp_path: Path, version: int) -> None:
    make_old(registry_path, version)
    for _ in range(2):
        registry = Registry(registry_path)
        assert walk(registry, None) == OLD_IDS
        assert walk(registry, "") == OLD_IDS[:3]
        assert walk(registry, "alice") == OLD_IDS[3:]
        assert [row.id for row in registry.live()] == [OLD_IDS[1], OLD_IDS[3]]
        assert registry.logs_bytes == 100
        logs = registry.oldest_logs()
        assert logs is not None
        assert (logs.id, logs.stored) == (OLD_IDS[2], 30)
        registry.close()
        assert version_of(registry_path) == SCHEMA_VERSION
    new = str(tmp_path / "new.db")
    Registry(new).close()
    assert schema_of(registry_path) == schema_of(new)


@each_older_version
def test_a_damaged_row_stops_the_migration_and_leaves_the_file(registry_path: str, version: int) -> None:
    make_old(registry_path, version)
    execute(registry_path, f"UPDATE tasks SET outcome = replace(outcome, '70', '71') WHERE id = '{OLD_IDS[0]}'")
    before = Path(registry_path).read_bytes()
    with pytest.raises(RegistryCorruptError):
        Registry(registry_path)
    assert Path(registry_path).read_bytes() == before


@each_older_version
def test_a_migration_that_fails_at_any_step_leaves_the_file(registry_path: str, version: int) -> None:
    """As by a full disk: each statement in its turn is not allowed, and then the same file is migrated after all."""
    make_old(registry_path, version)
    before = Path(registry_path).read_bytes()
    connect = sqlite3.connect
    refused_at = 0
    while True:
        refused_at += 1
        left = refused_at

        def refuse(*_action: object) -> int:
            nonlocal left
            left -= 1
            return sqlite3.SQLITE_OK if left else sqlite3.SQLITE_DENY

        def guarded(*args: Any, **options: Any) -> sqlite3.Connection:
            database: sqlite3.Connection = connect(*args, **options)
            database.set_authorizer(refuse)
            return database

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", guarded)
            try:
                Registry(registry_path).close()
            except Exception:  # noqa: BLE001 What a refusal is called does not matter here.
                patch.undo()
                assert version_of(registry_path) == SCHEMA_VERSION or Path(registry_path).read_bytes() == before
                continue
        break
    assert refused_at > 30
    registry = Registry(registry_path)
    assert walk(registry, "alice") == OLD_IDS[3:]
    assert registry.logs_bytes == 100
    registry.close()


@pytest.mark.parametrize("version", VERSIONS[1:])
@pytest.mark.parametrize("damage", ["DROP TABLE logs", "ALTER TABLE logs RENAME COLUMN bytes TO octets"])
def test_a_file_without_its_account_of_logs_is_damaged(registry_path: str, version: int, damage: str) -> None:
    make_old(registry_path, version)
    execute(registry_path, damage)
    with pytest.raises(RegistryCorruptError):
        Registry(registry_path)


# A file of version 2 passes for one of version 1: it has a table more, which is made anew.
MISMATCHES = [(is_, told) for is_ in VERSIONS for told in (-1, 0, *VERSIONS) if told != is_ and (is_, told) != (2, 1)]


@pytest.mark.parametrize(("version", "told"), MISMATCHES)
def test_a_version_and_tables_that_do_not_go_together_are_damage(registry_path: str, version: int, told: int) -> None:
    make_old(registry_path, version)
    execute(registry_path, f"PRAGMA user_version = {told}")
    with pytest.raises(RegistryCorruptError):
        Registry(registry_path)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, SCHEMA_VERSION + 7])
def test_a_newer_version_is_refused_and_the_file_left_alone(registry_path: str, version: int) -> None:
    Registry(registry_path).close()
    execute(registry_path, f"PRAGMA user_version = {version}")
    before = Path(registry_path).read_bytes()
    with pytest.raises(NewerRegistryError):
        Registry(registry_path)
    assert Path(registry_path).read_bytes() == before


@each_version
def test_the_frozen_files_are_what_they_say(version: int) -> None:
    """Their checksums are right, so that nothing above fails for another reason than it should."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.executescript(FROZEN[version])
        assert database.execute("PRAGMA user_version").fetchone() == (version,)
        rows = database.execute("SELECT id, over, spec, outcome, crc FROM tasks ORDER BY rowid").fetchall()
    assert [row[0] for row in rows] == OLD_IDS
    for task_id, over, spec, outcome, crc in rows:
        assert crc32(f"{task_id} {over} {spec} {outcome}".encode()) == crc
        assert json.loads(spec)["id"] == task_id
