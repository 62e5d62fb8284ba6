"""The registry by owner: what is found of one, that others cost nothing, and damage."""

import sqlite3
from collections.abc import Callable

import pytest

from supervisor.engine.storage.registry import Registry, RegistryCorruptError, Row
from supervisor.spool.records import ExitRecord
from tests.support.records import an_end, spec
from tests.support.registry import execute, ids, steps_of, walk

OVER = an_end(exit_code=3, stored_bytes=8, ended_ns=5)


def row_of(task_id: str, owner: str | None, outcome: ExitRecord | None = None) -> Row:
    return Row(task_id, spec(owner=owner), outcome)


OWNERS = ["alice", "bob", "", None, "bob", "alice", "alice", "bob"]


@pytest.mark.parametrize("stored", [0, 4, 8])
def test_each_owner_finds_its_own_tasks(registry: Registry, registry_path: str, stored: int) -> None:
    """Whether it is stored or queued, or cannot be stored now."""
    order = sorted(ids(8), reverse=True)
    for task_id, owner in list(zip(order, OWNERS, strict=True))[:stored]:
        registry.put(row_of(task_id, owner))
    assert registry.commit()
    another_program = sqlite3.connect(registry_path, isolation_level=None)
    another_program.execute("BEGIN IMMEDIATE")
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
    another_program.execute("ROLLBACK")
    another_program.close()


def test_a_task_that_is_over_stays_its_owners_and_leaves_the_live_ones(registry: Registry) -> None:
    first, second, third = ids(3)
    for task_id, owner in ((first, "alice"), (second, "alice"), (third, "bob")):
        registry.put(row_of(task_id, owner))
    registry.commit()
    registry.put(row_of(first, "alice", OVER))
    registry.commit()
    assert walk(registry, "alice") == [first, second]
    assert walk(registry, "alice", live_only=True) == [second]
    assert walk(registry, None, live_only=True) == [second, third]


def test_a_removed_row_hides_no_other(registry: Registry) -> None:
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
def test_an_owner_that_is_no_text_counts_as_none(registry: Registry, odd: object) -> None:
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
        steps = [step[3] for step in registry._db.execute(f"EXPLAIN QUERY PLAN {statement}")]
        stored, changed, unstored = [step for step in steps if "USING" in step]
        assert steps[0] == "MERGE (UNION ALL)"
        assert stored.startswith("SEARCH stored USING ")
        assert stored.endswith(of_all if owner is None else of_owner)
        # Each is looked up among the changed ones.
        assert changed.startswith("SEARCH changed USING ")
        assert changed.endswith("(id=?)")
        assert unstored.startswith("SEARCH unstored.tasks USING ")
        assert not [step for step in steps if "TEMP B-TREE" in step or "SCAN" in step]


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
