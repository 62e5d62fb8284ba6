"""The registry: rows queued and stored, found by prefix, listed in pages; damage and newer versions told apart."""

import json
import sqlite3
from binascii import crc32
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.engine.storage.registry import (
    Registry,
    RegistryCorruptError,
    RegistryUnusableError,
    Row,
    set_aside,
)
from tests.support.records import an_end, spec
from tests.support.registry import ids

SPEC = spec()
OVER = an_end(exit_code=3)


def reopened(registry_path: str) -> Registry:
    return Registry(registry_path)


def test_a_queued_row_is_found_before_and_after_the_commit(registry: Registry, registry_path: str) -> None:
    (task_id,) = ids(1)
    registry.put(Row(task_id, SPEC, None))
    for _ in range(2):
        row = registry.get(task_id)
        assert row is not None
        assert (row.spec, row.outcome) == (SPEC, None)
        assert registry.ids_from(task_id[:9], 3) == [task_id]
        assert registry.commit()
    other = reopened(registry_path)
    assert [row.id for row in other.live()] == [task_id]
    other.close()


def test_an_outcome_takes_a_task_out_of_the_live_ones(registry: Registry, registry_path: str) -> None:
    (task_id,) = ids(1)
    registry.put(Row(task_id, SPEC, None))
    registry.commit()
    registry.put(Row(task_id, SPEC, OVER))
    registry.commit()
    assert list(registry.live()) == []
    other = reopened(registry_path)
    row = other.get(task_id)
    assert row is not None
    assert row.outcome == OVER
    other.close()


def test_a_removed_row_is_gone_queued_or_not(registry: Registry) -> None:
    first, second = ids(2)
    registry.put(Row(first, SPEC, None))
    registry.commit()
    registry.put(Row(second, SPEC, None))
    for task_id in (first, second):
        registry.remove(task_id)
        assert registry.get(task_id) is None
        assert registry.ids_from(task_id, 3) == []
    registry.commit()
    assert registry.all_ids() == set()


def test_a_prefix_finds_as_many_as_asked_for_sorted(registry: Registry) -> None:
    for task_id in reversed(ids(20)):
        registry.put(Row(task_id, SPEC, None))
    registry.commit()
    assert registry.ids_from("0000000", 3) == ids(20)[:3]
    assert registry.ids_from("00000013", 3) == [ids(20)[19]]
    assert registry.ids_from("1", 3) == []
    # What SQL and patterns mean by these, a prefix does not.
    for odd in ("%", "_", "'", "*"):
        assert registry.ids_from(odd, 3) == []


def test_pages_hold_everything_once_in_the_order_of_acceptance(registry: Registry) -> None:
    order = sorted(ids(25), key=hash)
    for number, task_id in enumerate(order):
        registry.put(Row(task_id, SPEC, OVER if number % 5 == 0 else None))
        registry.commit()
    for live_only, wanted in ((False, order), (True, [one for n, one in enumerate(order) if n % 5])):
        found: list[str] = []
        after = 0
        while page := registry.page(after, 7, live_only=live_only):
            found += [row.id for _cursor, row in page]
            after = page[-1][0]
        assert found == wanted


def test_no_byte_that_is_no_ascii_in_the_schema_is_anything_but_damage(registry_path: str) -> None:
    """SQLite quotes the schema in what it says of it, in bytes that are no UTF-8."""
    reopened(registry_path).close()
    pristine = Path(registry_path).read_bytes()
    refused = 0
    for position in range(100, int.from_bytes(pristine[16:18], "big")):
        if not pristine[position]:
            continue
        damaged = bytearray(pristine)
        damaged[position] ^= 0x80
        for suffix in ("-wal", "-shm"):
            Path(registry_path + suffix).unlink(missing_ok=True)
        Path(registry_path).write_bytes(damaged)
        try:
            reopened(registry_path).close()
        except RegistryCorruptError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    "damage", ["spec = 'x'", "outcome = '{}'", "over = 1", "spec = replace(spec, 'ls', 'rm')", "crc = 0"]
)
def test_a_row_that_was_changed_is_found(registry: Registry, registry_path: str, damage: str) -> None:
    (task_id,) = ids(1)
    registry.put(Row(task_id, SPEC, None))
    registry.commit()
    another_program = sqlite3.connect(registry_path)
    another_program.execute(f"UPDATE tasks SET {damage}")
    another_program.commit()
    another_program.close()
    with pytest.raises(RegistryCorruptError):
        registry.get(task_id)


def test_a_spec_that_another_version_wrote_costs_no_other_task_its_place(
    registry: Registry, registry_path: str
) -> None:
    """Its checksum is right, so it is no damage: only this task's own spec is not understood."""
    strange, other = ids(2)
    registry.put(Row(strange, spec(id=strange, owner="alice"), None))
    registry.put(Row(other, SPEC, None))
    registry.commit()
    text = json.dumps({**spec(id=strange, owner="alice").to_json(), "grace_s": None})
    another_program = sqlite3.connect(registry_path)
    crc = crc32(f"{strange} 0 {text} None".encode())
    another_program.execute("UPDATE tasks SET spec = ?, crc = ? WHERE id = ?", (text, crc, strange))
    another_program.commit()
    another_program.close()
    row = registry.get(strange)
    assert row is not None
    assert (row.owner, row.spec.options.argv) == ("alice", [])
    assert registry.get(other) is not None


def test_noise_is_damage(registry_path: str) -> None:
    Path(registry_path).write_bytes(b"noise " * 1000)
    with pytest.raises(RegistryCorruptError):
        Registry(registry_path)


def test_a_place_that_cannot_be_used_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(RegistryUnusableError):
        Registry(str(tmp_path / "no" / "such" / "directory"))


def test_another_programs_lock_fails_the_commit_and_keeps_the_queue(registry: Registry, registry_path: str) -> None:
    another_program = sqlite3.connect(registry_path, isolation_level=None)
    another_program.execute("BEGIN EXCLUSIVE")
    (task_id,) = ids(1)
    registry.put(Row(task_id, SPEC, None))
    assert not registry.commit()
    assert registry.get(task_id) is not None
    another_program.execute("ROLLBACK")
    another_program.close()
    assert registry.commit()


@pytest.fixture
def full(registry: Registry, registry_path: str) -> Iterator[Registry]:
    """A registry of which the first 5 of ids(15) are stored, and nothing more can be."""
    for task_id in ids(5):
        registry.put(Row(task_id, SPEC, None))
    assert registry.commit()
    another_program = sqlite3.connect(registry_path, isolation_level=None)
    another_program.execute("BEGIN IMMEDIATE")
    for task_id in ids(15)[5:]:
        registry.put(Row(task_id, SPEC, None))
    registry.put(Row(ids(5)[0], SPEC, OVER))
    registry.put(Row(ids(15)[14], SPEC, OVER))
    registry.remove(ids(15)[13])
    assert not registry.commit()
    yield registry
    another_program.execute("ROLLBACK")
    another_program.close()
    assert registry.commit()


def test_a_task_that_the_disk_does_not_take_is_live_nevertheless(full: Registry) -> None:
    """An engine that starts on a full disk adopts it."""
    assert sorted(row.id for row in full.live()) == ids(13)[1:]


@pytest.mark.parametrize("limit", [1, 3, 5, 7, 100])
def test_a_task_that_the_disk_does_not_take_is_listed_once(full: Registry, limit: int) -> None:
    found: list[str] = []
    after = 0
    while page := full.page(after, limit, live_only=False):
        assert len(page) <= limit
        assert all(cursor > after for cursor, _row in page)
        found += [row.id for _cursor, row in page]
        after = page[-1][0]
    assert found == [*ids(13), ids(15)[14]]


def test_set_aside_overwrites_nothing(registry_path: str) -> None:
    kept = []
    for number in range(3):
        Path(registry_path).write_text(str(number))
        kept.append(set_aside(registry_path))
    assert [Path(name).read_text() for name in kept] == ["0", "1", "2"]
    assert not Path(registry_path).exists()
