"""The registry by owner: what is found of one, that others cost nothing, damage, and files without owners."""

import json
import sqlite3
from binascii import crc32
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.engine.storage.registry import NewerRegistryError, Registry, RegistryCorruptError, Row
from supervisor.spool.records import ExitRecord
from tests.support.paths import ROOT
from tests.support.records import an_end, spec
from tests.support.registry import ids

OVER = an_end(exit_code=3, stored_bytes=8, ended_ns=5)
VERSION_2 = (ROOT / "tests" / "data" / "registry-v2.sql").read_text()
# The tasks of that file, in the order of their start.
OLD_IDS = [f"{number:08x}-5555-4555-8555-555555555555" for number in (7, 3, 9, 1)]


def row_of(task_id: str, owner: str | None, outcome: ExitRecord | None = None) -> Row:
    return Row(task_id, spec(owner=owner), outcome)


def walk(registry: Registry, owner: str | None, *, live_only: bool = False, limit: int = 3) -> list[str]:
    """Return the ids on all pages, and see that no page is too long or goes back."""
    found: list[str] = []
    after = 0
    while page := registry.page(after, limit, live_only=live_only, owner=owner):
        assert len(page) <= limit
        assert all(cursor > after for cursor, _row in page)
        found += [row.id for _cursor, row in page]
        after = page[-1][0]
    return found


def execute(registry_path: str, statement: str) -> None:
    stranger = sqlite3.connect(registry_path)
    stranger.execute(statement)
    stranger.commit()
    stranger.close()


OWNERS = ["alice", "bob", "", None, "bob", "alice", "alice", "bob"]


@pytest.mark.parametrize("stored", [0, 4, 8])
def test_each_owner_finds_what_is_ones_own(registry: Registry, registry_path: str, stored: int) -> None:
    """Whether it is stored or queued, or cannot be stored now."""
    order = sorted(ids(8), reverse=True)
    for task_id, owner in list(zip(order, OWNERS, strict=True))[:stored]:
        registry.put(row_of(task_id, owner))
    assert registry.commit()
    registry._db.execute("PRAGMA busy_timeout = 0")
    stranger = sqlite3.connect(registry_path, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    for task_id, owner in list(zip(order, OWNERS, strict=True))[stored:]:
        registry.put(row_of(task_id, owner))
    assert stored == 8 or not registry.commit()
    for owner in ("alice", "bob", "", "ali", "alice'--", "carol"):
        own = [task_id for task_id, one in zip(order, OWNERS, strict=True) if (one or "") == owner]
        assert walk(registry, owner) == walk(registry, owner, live_only=True) == own
        assert walk(registry, owner, limit=1) == own
        assert registry.ids_from("", 8, owner) == sorted(own)
        assert registry.ids_from("", 2, owner) == sorted(own)[:2]
        for task_id in order:
            assert registry.ids_from(task_id[:8], 3, owner) == ([task_id] if task_id in own else [])
    assert walk(registry, None) == order
    assert registry.ids_from("", 8) == sorted(order)
    stranger.execute("ROLLBACK")
    stranger.close()


def test_one_that_is_over_stays_its_owners_and_leaves_the_live_ones(registry: Registry) -> None:
    first, second, third = ids(3)
    for task_id, owner in ((first, "alice"), (second, "alice"), (third, "bob")):
        registry.put(row_of(task_id, owner))
    registry.commit()
    registry.put(row_of(first, "alice", OVER))
    registry.commit()
    assert walk(registry, "alice") == [first, second]
    assert walk(registry, "alice", live_only=True) == [second]
    assert walk(registry, None, live_only=True) == [second, third]


def test_what_is_removed_hides_nothing_else(registry: Registry) -> None:
    """As many ids as are asked for are found though some of those in the file are not there any more."""
    for task_id in ids(9):
        registry.put(row_of(task_id, "alice"))
    registry.commit()
    for task_id in ids(3):
        registry.remove(task_id)
    assert registry.ids_from("", 3, "alice") == registry.ids_from("", 3) == ids(9)[3:6]


@pytest.mark.parametrize("owner", ["uid:1234", 'a"b\\c', "m\u00fcller", "m\udcfcller", "\0", "x" * 5000])
def test_an_owner_may_have_any_name(registry: Registry, registry_path: str, owner: str) -> None:
    registry.put(row_of(ids(1)[0], owner))
    assert registry.commit()
    other = Registry(registry_path)
    assert walk(other, owner) == other.ids_from("", 3, owner) == ids(1)
    assert walk(other, owner[:-1]) == []
    row = other.get(ids(1)[0])
    assert row is not None
    assert row.owner == owner
    other.close()


@pytest.mark.parametrize("odd", [None, 7, ["alice"], {}, True])
def test_an_owner_that_is_no_text_is_nobody(registry: Registry, odd: object) -> None:
    registry.put(Row(ids(1)[0], spec(owner=odd), None))
    assert registry.commit()
    assert walk(registry, "") == ids(1)


# What it costs


def statements_of(registry: Registry, call: Callable[[], object]) -> list[str]:
    said: list[str] = []
    registry._db.set_trace_callback(said.append)
    call()
    registry._db.set_trace_callback(None)
    return said


@pytest.mark.parametrize("owner", [None, "alice", ""])
def test_every_question_goes_through_an_index_and_nothing_is_sorted(registry: Registry, owner: str | None) -> None:
    questions: list[tuple[Callable[[], object], str]] = [
        (lambda: registry.ids_from("0", 3, owner), "owners_ids (owner=? AND id>? AND id<?)"),
        (lambda: registry.page(0, 9, live_only=False, owner=owner), "owners_tasks (owner=? AND rowid>?)"),
        (lambda: registry.page(0, 9, live_only=True, owner=owner), "owners_live_tasks (owner=? AND rowid>?)"),
    ]
    everybodys = ["(id>? AND id<?)", "PRIMARY KEY (rowid>?)", "live_tasks (over=? AND rowid>?)"]
    for (question, of_owner), of_all in zip(questions, everybodys, strict=True):
        (statement,) = statements_of(registry, question)
        (step,) = registry._db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        assert step[3].startswith("SEARCH tasks USING ")
        assert step[3].endswith(of_all if owner is None else of_owner)


def steps_of(registry: Registry, call: Callable[[], object]) -> int:
    """Return how many instructions of SQLite's machine something takes: the same on every computer."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    registry._db.set_progress_handler(count, 1)
    call()
    registry._db.set_progress_handler(None, 0)
    return steps


def test_many_rows_of_others_cost_an_owner_nothing(registry: Registry) -> None:
    def cost() -> list[int]:
        return [
            steps_of(registry, lambda: registry.ids_from("", 3, "alice")),
            steps_of(registry, lambda: registry.page(0, 9, live_only=False, owner="alice")),
            steps_of(registry, lambda: registry.page(0, 9, live_only=True, owner="alice")),
        ]

    for number, task_id in enumerate(ids(10)):
        registry.put(row_of(task_id, "alice", OVER if number % 2 else None))
    registry.commit()
    before = cost()
    for number in range(5000):
        registry.put(row_of(f"{number:08x}-0000-4000-9000-000000000000", f"user{number % 3}", None))
    registry.commit()
    # A step more at the end: there is a next entry, which is another's.
    assert all(now <= then + 3 for now, then in zip(cost(), before, strict=True))


def test_many_that_are_over_cost_a_page_of_live_ones_nothing(registry: Registry) -> None:
    def cost() -> int:
        return steps_of(registry, lambda: registry.page(0, 9, live_only=True))

    registry.put(row_of(ids(5001)[5000], "alice"))
    registry.commit()
    before = cost()
    for task_id in ids(5000):
        registry.put(row_of(task_id, "bob", OVER))
    registry.commit()
    assert cost() == before


# Damage


@pytest.mark.parametrize("owner", ["alice", "", None])
def test_an_owner_that_is_not_the_specs_is_found(registry: Registry, registry_path: str, owner: str | None) -> None:
    registry.put(row_of(ids(1)[0], owner))
    registry.commit()
    execute(registry_path, "UPDATE tasks SET owner = 'mallory'")
    questions: list[Callable[[], object]] = [
        lambda: registry.get(ids(1)[0]),
        lambda: registry.page(0, 9, live_only=False),
        lambda: registry.page(0, 9, live_only=True, owner="mallory"),
        registry.live,
    ]
    for question in questions:
        with pytest.raises(RegistryCorruptError):
            question()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_version_and_a_table_that_do_not_go_together_are_damage(registry_path: str, version: int) -> None:
    Registry(registry_path).close()
    if version == 3:
        for index in ("owners_tasks", "owners_live_tasks", "owners_ids"):
            execute(registry_path, f"DROP INDEX {index}")
        execute(registry_path, "ALTER TABLE tasks DROP COLUMN owner")
    execute(registry_path, f"PRAGMA user_version = {version}")
    with pytest.raises(RegistryCorruptError):
        Registry(registry_path)


# Older files


def make_old(registry_path: str, script: str) -> None:
    database = sqlite3.connect(registry_path, isolation_level=None)
    database.executescript(script)
    database.close()


def version_1() -> str:
    """Return that file as version 1 had it: with no account of logs."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(VERSION_2)
    database.execute("DROP TABLE logs")
    database.execute("PRAGMA user_version = 1")
    script = "\n".join(database.iterdump())
    database.close()
    return f"{script}\nPRAGMA application_id=1818588777;\nPRAGMA user_version=1;"


SCRIPTS = {1: version_1(), 2: VERSION_2}


def schema_of(registry_path: str) -> set[tuple[str, str]]:
    database = sqlite3.connect(registry_path)
    found = {(name, sql) for name, sql in database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'")}
    columns = {(name, kind) for _n, name, kind, *_more in database.execute("PRAGMA table_info(tasks)")}
    database.close()
    return found | columns


@pytest.mark.parametrize("version", SCRIPTS)
def test_an_older_registry_is_upgraded_in_its_place(registry_path: str, tmp_path: Path, version: int) -> None:
    make_old(registry_path, SCRIPTS[version])
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
        assert registry._db.execute("PRAGMA user_version").fetchone() == (3,)
        registry.close()
    new = str(tmp_path / "new.db")
    Registry(new).close()
    assert schema_of(registry_path) == schema_of(new)


@pytest.mark.parametrize("version", SCRIPTS)
def test_a_damaged_row_stops_the_upgrade_and_leaves_the_file(registry_path: str, version: int) -> None:
    make_old(registry_path, SCRIPTS[version])
    execute(registry_path, f"UPDATE tasks SET outcome = replace(outcome, '70', '71') WHERE id = '{OLD_IDS[0]}'")
    before = Path(registry_path).read_bytes()
    with pytest.raises(RegistryCorruptError):
        Registry(registry_path)
    assert Path(registry_path).read_bytes() == before


@pytest.mark.parametrize("version", SCRIPTS)
def test_an_upgrade_that_fails_at_any_step_leaves_the_file(registry_path: str, version: int) -> None:
    """As by a full disk: each statement in its turn is not allowed, and then the same file is upgraded after all."""
    make_old(registry_path, SCRIPTS[version])
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
                reopened = connect(registry_path)
                version_now = reopened.execute("PRAGMA user_version").fetchone()[0]
                reopened.close()
                assert version_now == 3 or Path(registry_path).read_bytes() == before
                continue
        break
    assert refused_at > 30
    registry = Registry(registry_path)
    assert walk(registry, "alice") == OLD_IDS[3:]
    assert registry.logs_bytes == 100
    registry.close()


@pytest.mark.parametrize("damage", ["DROP TABLE logs", "ALTER TABLE logs RENAME COLUMN bytes TO octets"])
def test_version_2_without_its_account_of_logs_is_damaged(registry_path: str, damage: str) -> None:
    make_old(registry_path, VERSION_2)
    execute(registry_path, damage)
    with pytest.raises(RegistryCorruptError):
        Registry(registry_path)


def test_the_next_version_is_refused_and_the_file_left_alone(registry_path: str) -> None:
    Registry(registry_path).close()
    execute(registry_path, "PRAGMA user_version = 4")
    before = Path(registry_path).read_bytes()
    with pytest.raises(NewerRegistryError):
        Registry(registry_path)
    assert Path(registry_path).read_bytes() == before


def test_the_checked_in_file_is_what_it_says() -> None:
    """Its checksums are right, so that nothing above fails for another reason than it should."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(VERSION_2)
    rows = database.execute("SELECT id, over, spec, outcome, crc FROM tasks ORDER BY rowid").fetchall()
    database.close()
    assert [row[0] for row in rows] == OLD_IDS
    for task_id, over, packed, outcome, crc in rows:
        assert crc32(f"{task_id} {over} {packed} {outcome}".encode()) == crc
        assert json.loads(packed)["id"] == task_id
