"""The registry's account of what is stored of ended tasks' output: its sum, its order, its damage."""

import random
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from supervisor.engine.storage.registry import Logs, Registry, RegistryCorruptError, Row
from supervisor.engine.storage.registry_rows import logs_of
from supervisor.spool.records import ExitRecord
from tests.support.records import an_end, spec
from tests.support.registry import ids, steps_of

SPEC = spec()


def ended(ended_ns: int, **more: object) -> ExitRecord:
    return an_end(ended_ns=ended_ns, **more)


def oldest(registry: Registry) -> Logs:
    logs = registry.oldest_logs()
    assert logs is not None
    return logs


def in_order(registry: Registry) -> list[tuple[str, int]]:
    """Take all logs out of the registry, oldest first."""
    found = []
    while logs := registry.oldest_logs():
        found.append((logs.id, logs.stored))
        registry.drop_logs(logs)
    return found


def kept(registry_path: str) -> tuple[int, list[tuple[str, int]]]:
    """Return the sum and the logs, oldest first, as a registry has them that is opened anew, and leave it unchanged."""
    other = Registry(registry_path)
    result = other.logs_bytes, in_order(other)
    other.close()
    return result


@pytest.mark.parametrize("commits", [False, True])
def test_the_oldest_end_comes_first_whether_committed_or_not(
    registry: Registry, registry_path: str, commits: bool
) -> None:
    first, second, third, *_rest = ids(3)
    for task_id, ended_ns in ((second, 20), (third, 30), (first, 10)):
        registry.put(Row(task_id, SPEC, ended(ended_ns, stored_bytes=ended_ns * 100)))
        if commits:
            registry.commit()
    assert registry.logs_bytes == 6000
    assert (oldest(registry).id, oldest(registry).stored) == (first, 1000)
    registry.drop_logs(oldest(registry))
    assert registry.logs_bytes == 5000
    assert oldest(registry).id == second
    registry.commit()
    assert kept(registry_path) == (5000, [(second, 2000), (third, 3000)])
    # The tasks themselves stay.
    assert registry.all_ids() == {first, second, third}


def test_a_live_task_and_one_without_output_have_no_logs(registry: Registry, registry_path: str) -> None:
    live, silent = ids(2)
    registry.put(Row(live, SPEC, None))
    registry.put(Row(silent, SPEC, ended(1, stored_bytes=0)))
    assert registry.oldest_logs() is None
    registry.commit()
    assert registry.logs_bytes == 0
    assert registry.oldest_logs() is None
    assert kept(registry_path) == (0, [])


def test_an_end_that_is_told_twice_counts_once(registry: Registry) -> None:
    (task_id,) = ids(1)
    for _ in range(2):
        registry.put(Row(task_id, SPEC, ended(1, stored_bytes=70)))
    assert registry.logs_bytes == 70


def test_the_counted_bytes_are_believed_rather_than_the_record(registry: Registry, registry_path: str) -> None:
    first, second = ids(2)
    registry.put(Row(first, SPEC, ended(1, stored_bytes=70)), 50)
    registry.put(Row(second, SPEC, ended(2, stored_bytes=70)), 0)
    registry.commit()
    assert registry.logs_bytes == 50
    assert kept(registry_path) == (50, [(first, 50)])


def test_logs_that_cannot_be_removed_go_to_the_end_of_the_row(registry: Registry, registry_path: str) -> None:
    for number, task_id in enumerate(ids(3)):
        registry.put(Row(task_id, SPEC, ended(number, stored_bytes=10)))
    registry.commit()
    registry.put_off_logs(oldest(registry), 99)
    assert registry.logs_bytes == 30
    assert oldest(registry).id == ids(3)[1]
    registry.commit()
    assert kept(registry_path) == (30, [(task_id, 10) for task_id in (ids(3)[1], ids(3)[2], ids(3)[0])])


def test_while_nothing_can_be_committed_the_order_holds(registry: Registry, registry_path: str) -> None:
    """A full disk is when logs are removed."""
    for number, task_id in enumerate(ids(20)):
        registry.put(Row(task_id, SPEC, ended(number, stored_bytes=1)))
        if number == 9:
            registry.commit()
    another_program = sqlite3.connect(registry_path, isolation_level=None)
    another_program.execute("BEGIN IMMEDIATE")
    assert not registry.commit()
    assert [task_id for task_id, _bytes in in_order(registry)] == ids(20)
    assert registry.logs_bytes == 0
    another_program.execute("ROLLBACK")
    another_program.close()
    assert registry.commit()
    assert kept(registry_path) == (0, [])


def test_each_removal_costs_the_same_while_nothing_can_be_committed(registry: Registry, registry_path: str) -> None:
    def cost(count: int) -> int:
        """Return what it costs to remove so many, of which half are in the file."""
        for number, task_id in enumerate(ids(count)):
            registry.put(Row(task_id, SPEC, ended(number, stored_bytes=1)))
            if number == count // 2:
                assert registry.commit()
        with closing(sqlite3.connect(registry_path, isolation_level=None)) as another_program:
            another_program.execute("BEGIN IMMEDIATE")
            steps = steps_of(registry, lambda: in_order(registry))
            assert registry.oldest_logs() is None
            assert not registry.commit()
        return steps

    few, many = cost(100), cost(1000)
    assert many < 15 * few


def test_logs_put_after_a_search_are_found_though_they_are_older(registry: Registry, registry_path: str) -> None:
    """A task may be known to have ended long after it has: its shim had stored that while there was no engine."""
    first, second, third, fourth = ids(4)
    registry.put(Row(third, SPEC, ended(30, stored_bytes=1)))
    registry.commit()
    registry.drop_logs(oldest(registry))
    assert registry.oldest_logs() is None
    registry.put(Row(second, SPEC, ended(20, stored_bytes=1)))
    assert oldest(registry).id == second
    registry.put(Row(first, SPEC, ended(10, stored_bytes=1)))
    assert oldest(registry).id == first
    registry.commit()
    registry.put(Row(fourth, SPEC, ended(5, stored_bytes=1)))
    registry.put_off_logs(oldest(registry), 25)
    assert kept(registry_path) == (2, [(first, 1), (second, 1)])
    assert [task_id for task_id, _bytes in in_order(registry)] == [first, second, fourth]


@pytest.mark.parametrize(
    "odd", [{}, {"stored_bytes": -1}, {"stored_bytes": "9"}, {"stored_bytes": 2**70}, {"stored_bytes": [1]}], ids=str
)
def test_a_record_that_tells_nonsense_counts_for_nothing(
    registry: Registry, registry_path: str, odd: dict[str, Any]
) -> None:
    registry.put(Row(ids(1)[0], SPEC, an_end(ended_ns="then", **odd)))
    assert registry.commit()
    assert kept(registry_path) == (0, [])


@pytest.mark.parametrize(
    ("outcome", "stored"),
    [
        ({"stored_bytes": 9, "stdout_bytes": 5, "stderr_bytes": 6}, 9),
        # Before there was a cap, all that was written was stored.
        ({"stdout_bytes": 5, "stderr_bytes": 6}, 11),
        ({"stdout_bytes": 7, "stderr_bytes": None}, 7),
        ({"stdout_bytes": 0, "stderr_bytes": 0}, 0),
    ],
)
def test_an_exit_record_says_how_much_is_stored(outcome: dict[str, Any], stored: int) -> None:
    assert logs_of(ids(1)[0], ended(20, **outcome)).stored == stored


def test_any_number_of_logs_keeps_order_and_sum(registry: Registry, registry_path: str) -> None:
    chance = random.Random(5)
    wanted = {}
    for task_id in ids(300):
        ended_ns, stored = chance.randrange(2**61), chance.randrange(1, 2**40)
        wanted[task_id] = (ended_ns, stored)
        registry.put(Row(task_id, SPEC, ended(ended_ns, stored_bytes=stored)))
        if chance.random() < 0.3:
            registry.commit()
        if chance.random() < 0.3:
            logs = oldest(registry)
            assert logs.id == min(wanted, key=lambda one: wanted[one][0])
            registry.drop_logs(logs)
            del wanted[logs.id]
        assert registry.logs_bytes == sum(stored for _ended_ns, stored in wanted.values())
    registry.commit()
    order = sorted(wanted, key=lambda one: wanted[one][0])
    assert kept(registry_path) == (registry.logs_bytes, [(task_id, wanted[task_id][1]) for task_id in order])


# Damage


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE logs SET bytes = bytes | 1 << 40",
        "UPDATE logs SET bytes = bytes & ~64",
        "UPDATE logs SET ended_ns = ended_ns & ~1",
        "UPDATE logs SET proof = proof + 1",
        "UPDATE logs SET bytes = 'many'",
        "DROP TABLE logs",
        "ALTER TABLE logs RENAME COLUMN bytes TO octets",
    ],
)
def test_an_account_that_was_changed_is_found_when_it_is_opened(
    registry: Registry, registry_path: str, damage: str
) -> None:
    registry.put(Row(ids(1)[0], SPEC, ended(3, stored_bytes=64)))
    registry.commit()
    registry.close()
    another_program = sqlite3.connect(registry_path)
    another_program.execute(damage)
    another_program.commit()
    another_program.close()
    with pytest.raises(RegistryCorruptError):
        Registry(registry_path)
