"""What goes when too much is stored: how the janitor decides, and that it does no more than it must."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.loop import Loop
from supervisor.engine.storage import retention as janitor
from supervisor.engine.storage import task_directory as directory
from supervisor.engine.storage.rebuild import open_registry
from supervisor.engine.storage.registry import Logs, Registry, RegistryUnusableError, Row
from supervisor.engine.storage.retention import Disk, Janitor, Limits, must_go
from supervisor.settings import Keeping
from tests.support.records import an_end, spec

MIB, GIB = 2**20, 2**30
ROOMY = Disk(total=100 * GIB, free=50 * GIB)
LIMITS = Limits(quota=10 * GIB, min_free=GIB, spared=64 * MIB)


# The decision


@pytest.mark.parametrize(
    ("stored", "freed", "disk", "limits", "goes"),
    [
        (0, 0, ROOMY, LIMITS, False),
        (10 * GIB, 0, ROOMY, LIMITS, False),
        (10 * GIB + 1, 0, ROOMY, LIMITS, True),
        (10 * GIB + 1, 0, ROOMY, replace(LIMITS, quota=0), False),
        (5 * GIB, 0, replace(ROOMY, free=GIB), LIMITS, False),
        (5 * GIB, 0, replace(ROOMY, free=GIB - 1), LIMITS, True),
        (5 * GIB, 0, replace(ROOMY, free=0), replace(LIMITS, min_free=0), False),
        # What was freed counts, though the disk may be late to say so.
        (5 * GIB, 400 * MIB, replace(ROOMY, free=600 * MIB), LIMITS, True),
        (5 * GIB, 424 * MIB, replace(ROOMY, free=600 * MIB), LIMITS, False),
        # Others have filled the disk: a little is left alone.
        (64 * MIB + 1, 0, replace(ROOMY, free=0), LIMITS, True),
        (64 * MIB, 0, replace(ROOMY, free=0), LIMITS, False),
        (64 * MIB, 0, replace(ROOMY, free=0), replace(LIMITS, quota=MIB), True),
        # Unless a task waits for it.
        (64 * MIB, 0, replace(ROOMY, free=0, is_awaited=True), LIMITS, True),
        (64 * MIB, 0, replace(ROOMY, free=0, is_awaited=True), replace(LIMITS, min_free=0), False),
        # Free by the disk's own account, but not for this user (EDQUOT): some at a time.
        (GIB, 0, replace(ROOMY, is_awaited=True), LIMITS, True),
        (GIB, 4 * MIB - 1, replace(ROOMY, is_awaited=True), LIMITS, True),
        (GIB, 4 * MIB, replace(ROOMY, is_awaited=True), LIMITS, False),
    ],
)
def test_what_must_go(stored: int, freed: int, disk: Disk, limits: Limits, goes: bool) -> None:
    assert must_go(stored, freed, disk, limits) is goes


@given(
    stored=st.integers(0, 2**50),
    freed=st.integers(0, 2**50),
    free=st.integers(0, 2**50),
    quota=st.integers(0, 2**50),
    min_free=st.integers(0, 2**50),
    is_awaited=st.booleans(),
)
def test_no_more_goes_than_is_needed(
    stored: int, freed: int, free: int, quota: int, min_free: int, is_awaited: bool
) -> None:
    goes = must_go(stored, freed, Disk(2**50, free, is_awaited), Limits(quota, min_free, 64 * MIB))
    if not quota and not min_free:
        assert not goes
    if goes and not is_awaited:
        assert (quota and stored > quota) or free + freed < min_free
    if quota and stored > quota:
        assert goes


@pytest.mark.parametrize(
    ("given", "total", "min_free"),
    [
        (None, 100 * GIB, GIB),
        (None, 20 * GIB, GIB),
        (None, 10 * GIB, GIB // 2),
        (None, 0, 0),
        (7, 100 * GIB, 7),
        (0, GIB, 0),
    ],
)
def test_the_minimum_of_free_space_follows_the_disk_if_nobody_gave_one(
    given: int | None, total: int, min_free: int
) -> None:
    assert Limits.of(Keeping(min_free=given), Disk(total, 0)).min_free == min_free


def test_the_defaults() -> None:
    limits = Limits.of(Keeping(), Disk(100 * GIB, 0))
    assert (Keeping().log_cap, limits.quota, limits.min_free, limits.spared) == (GIB, 10 * GIB, GIB, 64 * MIB)


# The sweep


class Place:
    """A state directory with ended tasks of 1000 bytes each, oldest first in `ids`, and a janitor for it."""

    def __init__(self, quota: int = 0, min_free: int = 0) -> None:
        self.registry: Registry = open_registry()
        self.loop = Loop()
        self.is_awaited = False
        limits = Limits(quota, min_free, spared=0)
        self.janitor = Janitor(self.loop, self.registry, limits, lambda: self.is_awaited)
        self.ids: list[str] = []

    def add(self, count: int) -> None:
        for _ in range(count):
            number = len(self.ids)
            task_id = f"{number:08x}-0000-4000-8000-000000000000"
            asked, outcome = spec(id=task_id), an_end(reason="exited", ended_ns=number + 1, stored_bytes=1000)
            directory.create(task_id, asked)
            directory.store_exit(task_id, outcome)
            Path(f"tasks/{task_id}/stdout.0000000000000000.log").write_bytes(b"x" * 920)
            Path(f"tasks/{task_id}/index.0000000000000000").write_bytes(b"x" * 80)
            self.registry.put(Row(task_id, asked, outcome))
            self.ids.append(task_id)
        self.registry.commit()

    def run(self, seconds: float = 0.05, each_turn: Callable[[], object] = lambda: None) -> None:
        """Let the loop do what is due in that time, however long it takes."""
        give_up_at = time.monotonic() + seconds

        def stop_when_idle() -> None:
            each_turn()
            sleep_s = self.loop._sleep_s()
            if sleep_s is None or (sleep_s > 0 and time.monotonic() + sleep_s > give_up_at):
                self.loop.stop()

        self.loop._running = True
        self.loop.later(0, lambda: None)
        self.loop.run(stop_when_idle)

    def left(self) -> list[int]:
        """Return the numbers of the tasks of which there is output, and check that all have their result."""
        for task_id in self.ids:
            assert {"spec.json", "exit.json"} <= set(os.listdir(f"tasks/{task_id}"))
        return [number for number, task_id in enumerate(self.ids) if directory.stored_bytes(task_id)]

    def close(self) -> None:
        self.loop._selector.close()
        self.registry.close()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Place]]:
    monkeypatch.chdir(tmp_path)
    made: list[Place] = []
    yield made
    for place in made:
        place.close()


def make(places: list[Place], quota: int = 0, min_free: int = 0, count: int = 10) -> Place:
    place = Place(quota, min_free)
    places.append(place)
    place.add(count)
    return place


def disk(monkeypatch: pytest.MonkeyPatch, *free: int) -> list[int]:
    """Have the disk say that so much is free, one number after the other, the last for ever; return how often asked."""
    asked: list[int] = []

    def now(*, is_awaited: bool = False) -> Disk:
        asked.append(free[min(len(asked), len(free) - 1)])
        return Disk(100 * GIB, asked[-1], is_awaited)

    monkeypatch.setattr(janitor.Disk, "now", now)
    return asked


def test_over_the_quota_the_oldest_go_and_no_more_than_needed(places: list[Place]) -> None:
    place = make(places, quota=4500)
    place.janitor.poke()
    place.run()
    assert place.left() == [6, 7, 8, 9]
    assert place.registry.logs_bytes == 4000


def test_within_its_limits_nothing_goes(places: list[Place]) -> None:
    place = make(places, quota=10_000, min_free=1)
    place.janitor.poke()
    place.run()
    assert len(place.left()) == 10


def test_one_task_a_turn(places: list[Place]) -> None:
    """So that a query never waits for more than one."""
    place = make(places, quota=1)
    turns: list[int] = []
    place.janitor.poke()
    place.loop.later(20, place.loop.stop)

    def after_turn() -> None:
        turns.append(len(place.left()))
        if not turns[-1]:
            place.loop.stop()

    place.loop.run(after_turn)
    assert turns[-1] == 0
    assert all(before - after <= 1 for before, after in zip([10, *turns], turns, strict=False))


def test_what_takes_long_is_removed_in_several_turns(places: list[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "_TURN_BYTES", 500)
    place = make(places, quota=8000)
    seen: list[tuple[int, int]] = []
    place.janitor.poke()
    place.run(each_turn=lambda: seen.append((directory.stored_bytes(place.ids[0]), place.registry.logs_bytes)))
    assert (80, 10_000) in seen, "counted as gone before it was"
    assert place.left() == list(range(2, 10))


def test_pokes_lead_to_one_look_a_second_and_then_to_none(places: list[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    place = make(places, min_free=1)
    asked = disk(monkeypatch, GIB)
    for _ in range(100):
        place.janitor.poke()
    place.run()
    assert len(asked) == 1
    for _ in range(100):
        place.janitor.poke()
    place.run()
    assert len(asked) == 1
    place.run(1.2)
    assert len(asked) == 2
    assert place.loop._sleep_s() is None, "an idle levityd wakes up"


def test_with_too_little_free_only_what_is_missing_goes(places: list[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the disk goes on saying what it said."""
    place = make(places, min_free=GIB)
    disk(monkeypatch, GIB - 2500)
    place.janitor.poke()
    place.run()
    assert place.left() == [3, 4, 5, 6, 7, 8, 9]


def test_a_task_that_waits_for_room_is_not_kept_waiting(places: list[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    place = make(places, min_free=GIB, count=3)
    asked = disk(monkeypatch, 2 * GIB, GIB - 500, 2 * GIB)
    place.janitor.poke()
    place.run()
    assert len(place.left()) == 3
    place.is_awaited = True
    place.janitor.poke(urgent=True)
    place.run()
    # It looked at once, and took what there was, being less than is worth the while.
    assert len(asked) == 2
    assert place.left() == []
    # It looks again whether that was enough: nothing is left to be removed, so that was it.
    place.run(1.2)
    assert len(asked) == 3
    assert place.loop._sleep_s() is None


def test_when_the_task_goes_on_nothing_more_goes(places: list[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    place = make(places, min_free=GIB)
    monkeypatch.setattr(janitor, "_ROOM_BYTES", 1500)
    disk(monkeypatch, 2 * GIB)
    place.is_awaited = True
    place.janitor.poke(urgent=True)
    place.run()
    assert place.left() == list(range(2, 10))
    place.run(1.2)
    assert place.left() == list(range(4, 10))
    place.is_awaited = False
    place.run(1.2)
    assert place.left() == list(range(4, 10))
    assert place.loop._sleep_s() is None


def test_what_cannot_be_removed_stops_nobody_for_ever(
    places: list[Place], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = make(places, quota=5000)
    remove_output = directory.remove_output

    def refuse(task_id: str, limit_bytes: int) -> tuple[int, bool]:
        if task_id == place.ids[0]:
            raise PermissionError(1, "Operation not permitted")
        return remove_output(task_id, limit_bytes)

    monkeypatch.setattr(directory, "remove_output", refuse)
    place.janitor.poke()
    place.run()
    assert len(place.left()) == 10
    place.janitor.poke()
    place.run(1.2)
    assert place.left() == [0, 6, 7, 8, 9]
    refusal, summary = capfd.readouterr().err.splitlines()
    assert place.ids[0] in refusal
    assert "Operation not permitted" in refusal
    assert "removed the output of 5 tasks" in summary


def test_what_ended_lately_is_kept_until_it_is_old_enough(places: list[Place]) -> None:
    place = make(places, quota=5000)
    place.janitor.limits = replace(place.janitor.limits, min_age_s=0.5)
    ages = itertools.count(time.time_ns() - 10**8)
    place.registry.oldest_logs = lambda: Logs(place.ids[len(place.ids) - len(place.left())], 1000, next(ages))  # type: ignore[method-assign]
    place.janitor.poke()
    place.run(0.1)
    assert len(place.left()) == 10
    place.run(0.6)
    assert len(place.left()) == 5
    # Unless somebody waits for the room.
    place.is_awaited = True
    place.janitor.limits = replace(place.janitor.limits, min_age_s=3600.0, quota=3000)
    place.janitor.poke(urgent=True)
    place.run(0.1)
    assert len(place.left()) == 3


def test_a_registry_that_cannot_be_read_puts_it_off(
    places: list[Place], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = make(places, quota=5000)

    def refuse(_self: Registry) -> None:
        raise RegistryUnusableError("disk I/O error")

    place.janitor.poke()
    with monkeypatch.context() as broken:
        broken.setattr(Registry, "oldest_logs", refuse)
        place.run()
    assert len(place.left()) == 10
    assert "disk I/O error" in capfd.readouterr().err
    place.janitor.poke()
    place.run(1.2)
    assert place.left() == [5, 6, 7, 8, 9]


# Killed in between


def test_output_that_was_removed_before_a_crash_goes_first_and_nothing_else_for_it(places: list[Place]) -> None:
    place = make(places, quota=10_000)
    place.add(2)
    for task_id in place.ids[:2]:  # Unlinked, but not committed.
        directory.remove_output(task_id, GIB)
    next_place = Place(quota=10_000)
    places.append(next_place)
    next_place.ids = place.ids
    assert next_place.registry.logs_bytes == 12_000
    next_place.janitor.poke()
    next_place.run()
    assert next_place.left() == list(range(2, 12))
    assert next_place.registry.logs_bytes == 10_000


def test_half_removed_output_is_removed_to_its_end(places: list[Place]) -> None:
    place = make(places, quota=9500)
    os.unlink(f"tasks/{place.ids[0]}/stdout.0000000000000000.log")
    place.janitor.poke()
    place.run()
    assert place.left() == list(range(1, 10))


def test_a_registry_made_anew_counts_what_is_there(places: list[Place]) -> None:
    place = make(places, quota=4500)
    place.janitor.poke()
    place.run()
    place.registry.close()
    for name in os.listdir("."):
        if name.startswith("registry.db"):
            os.unlink(name)
    anew = Place(quota=4500)
    places.append(anew)
    assert anew.registry.logs_bytes == 4000
    logs = anew.registry.oldest_logs()
    assert logs is not None
    assert logs.id == place.ids[6]
