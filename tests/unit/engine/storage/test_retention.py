"""What goes when too much is stored: how it is decided, and that no more goes than must."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.loop import Loop, Timer
from supervisor.engine.storage import retention
from supervisor.engine.storage import task_directory as directory
from supervisor.engine.storage.rebuild import open_registry
from supervisor.engine.storage.registry import Registry, RegistryUnusableError, Row
from supervisor.engine.storage.retention import Disk, Limits, Retention, must_go
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
def test_whether_output_must_go(stored: int, freed: int, disk: Disk, limits: Limits, goes: bool) -> None:
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
def test_the_minimum_of_free_space_follows_the_disk_by_default(given: int | None, total: int, min_free: int) -> None:
    assert Limits.of(Keeping(min_free=given), Disk(total, 0)).min_free == min_free


def test_the_defaults() -> None:
    limits = Limits.of(Keeping(), Disk(100 * GIB, 0))
    assert (Keeping().log_cap, limits.quota, limits.min_free, limits.spared) == (GIB, 10 * GIB, GIB, 64 * MIB)


# The sweep


# The time of day when a test begins.
START_NS = 10**18


class VirtualLoop(Loop):
    """A loop in which time passes only as far as the test says."""

    def __init__(self) -> None:
        self.now = self.begun = 1000.0
        self._waiting: list[Timer] = []

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay_s, call)
        self._waiting.append(timer)
        return timer

    def next_due(self) -> float | None:
        return min((timer.when for timer in self._waiting if timer.call is not None), default=None)

    def pass_time(self, seconds: float, after_turn: Callable[[], object]) -> None:
        """Do what is due in that time, all that is due at one moment in one turn."""
        until = self.now + seconds
        while (due := self.next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            ready = [timer for timer in self._waiting if timer.when <= self.now]
            self._waiting = [timer for timer in self._waiting if timer.when > self.now]
            for timer in ready:
                if timer.call is not None:
                    timer.call()
            after_turn()
        self.now = until


class Place:
    """A state directory with ended tasks of 1000 bytes each, oldest first in `ids`, and what keeps it within bounds.

    `free` is what the disk says is free, one number after the other, the last for ever; `asked` what it said so far.
    """

    def __init__(self, quota: int = 0, min_free: int = 0) -> None:
        self.registry: Registry = open_registry()
        self.loop = VirtualLoop()
        self.is_awaited = False
        self.free = [50 * GIB]
        self.asked: list[int] = []
        self.retention = Retention(
            self.loop,
            self.registry,
            Limits(quota, min_free, spared=0),
            lambda: self.is_awaited,
            clock=lambda: self.loop.now,
            time_ns=self.time_ns,
            disk=self._disk,
        )
        self.ids: list[str] = []

    def time_ns(self) -> int:
        return START_NS + round((self.loop.now - self.loop.begun) * 1e9)

    def _disk(self, *, is_awaited: bool) -> Disk:
        self.asked.append(self.free[min(len(self.asked), len(self.free) - 1)])
        return Disk(100 * GIB, self.asked[-1], is_awaited)

    def add(self, count: int, first_end_ns: int = 1) -> None:
        for _ in range(count):
            number = len(self.ids)
            task_id = f"{number:08x}-0000-4000-8000-000000000000"
            asked, outcome = (
                spec(id=task_id),
                an_end(reason="exited", ended_ns=first_end_ns + number, stored_bytes=1000),
            )
            directory.create(task_id, asked)
            directory.store_exit(task_id, outcome)
            Path(f"tasks/{task_id}/stdout.0000000000000000.log").write_bytes(b"x" * 920)
            Path(f"tasks/{task_id}/index.0000000000000000").write_bytes(b"x" * 80)
            self.registry.put(Row(task_id, asked, outcome))
            self.ids.append(task_id)
        self.registry.commit()

    def run(self, seconds: float = 0.05, each_turn: Callable[[], object] = lambda: None) -> None:
        self.loop.pass_time(seconds, each_turn)

    def left(self) -> list[int]:
        """Return the numbers of the tasks of which there is output, and check that all have their result."""
        for task_id in self.ids:
            assert {"spec.json", "exit.json"} <= set(os.listdir(f"tasks/{task_id}"))
        return [number for number, task_id in enumerate(self.ids) if directory.stored_bytes(task_id)]

    def close(self) -> None:
        self.registry.close()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Place]]:
    monkeypatch.chdir(tmp_path)
    made: list[Place] = []
    yield made
    for place in made:
        place.close()


def make(places: list[Place], quota: int = 0, min_free: int = 0, count: int = 10, first_end_ns: int = 1) -> Place:
    place = Place(quota, min_free)
    places.append(place)
    place.add(count, first_end_ns)
    return place


def test_over_the_quota_the_oldest_go_and_no_more_than_needed(places: list[Place]) -> None:
    place = make(places, quota=4500)
    place.retention.check_soon()
    place.run()
    assert place.left() == [6, 7, 8, 9]
    assert place.registry.logs_bytes == 4000


def test_within_its_limits_nothing_goes(places: list[Place]) -> None:
    place = make(places, quota=10_000, min_free=1)
    place.retention.check_soon()
    place.run()
    assert len(place.left()) == 10


def test_one_task_a_turn(places: list[Place]) -> None:
    """So that a query never waits for more than one."""
    place = make(places, quota=1)
    turns: list[int] = []
    place.retention.check_soon()
    place.run(each_turn=lambda: turns.append(len(place.left())))
    assert turns[-1] == 0
    assert all(before - after <= 1 for before, after in zip([10, *turns], turns, strict=False))


def test_large_output_is_removed_in_several_turns(places: list[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_TURN_BYTES", 500)
    place = make(places, quota=8000)
    seen: list[tuple[int, int]] = []
    place.retention.check_soon()
    place.run(each_turn=lambda: seen.append((directory.stored_bytes(place.ids[0]), place.registry.logs_bytes)))
    assert (80, 10_000) in seen, "counted as gone before it was"
    assert place.left() == list(range(2, 10))


def test_many_calls_lead_to_one_check_a_second_and_then_to_none(places: list[Place]) -> None:
    place = make(places, min_free=1)
    place.free = [GIB]
    for _ in range(100):
        place.retention.check_soon()
    place.run()
    assert len(place.asked) == 1
    for _ in range(100):
        place.retention.check_soon()
    place.run()
    assert len(place.asked) == 1
    place.run(1.2)
    assert len(place.asked) == 2
    assert place.loop.next_due() is None, "an idle levityd wakes up"


def test_with_too_little_free_only_what_is_missing_goes(places: list[Place]) -> None:
    """Though the disk goes on saying what it said."""
    place = make(places, min_free=GIB)
    place.free = [GIB - 2500]
    place.retention.check_soon()
    place.run()
    assert place.left() == [3, 4, 5, 6, 7, 8, 9]


def test_a_task_that_waits_for_room_is_not_kept_waiting(places: list[Place]) -> None:
    place = make(places, min_free=GIB, count=3)
    place.free = [2 * GIB, GIB - 500, 2 * GIB]
    place.retention.check_soon()
    place.run()
    assert len(place.left()) == 3
    place.is_awaited = True
    place.retention.check_soon(urgent=True)
    place.run()
    # It checked at once, and took what there was, which is less than it would free for that task.
    assert len(place.asked) == 2
    assert place.left() == []
    # It checks again whether that was enough. Nothing is left to be removed: it checks no more.
    place.run(1.2)
    assert len(place.asked) == 3
    assert place.loop.next_due() is None


def test_when_the_task_goes_on_nothing_more_goes(places: list[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    place = make(places, min_free=GIB)
    monkeypatch.setattr(retention, "_ROOM_BYTES", 1500)
    place.free = [2 * GIB]
    place.is_awaited = True
    place.retention.check_soon(urgent=True)
    place.run()
    assert place.left() == list(range(2, 10))
    place.run(1.2)
    assert place.left() == list(range(4, 10))
    place.is_awaited = False
    place.run(1.2)
    assert place.left() == list(range(4, 10))
    assert place.loop.next_due() is None


def test_logs_that_cannot_be_removed_do_not_hold_up_the_others(
    places: list[Place], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = make(places, quota=5000)
    remove_output = directory.remove_output

    def refuse(task_id: str, limit_bytes: int) -> tuple[int, bool]:
        if task_id == place.ids[0]:
            raise PermissionError(1, "Operation not permitted")
        return remove_output(task_id, limit_bytes)

    monkeypatch.setattr(directory, "remove_output", refuse)
    place.retention.check_soon()
    place.run()
    assert len(place.left()) == 10
    place.retention.check_soon()
    place.run(1.2)
    assert place.left() == [0, 6, 7, 8, 9]
    refusal, summary = capfd.readouterr().err.splitlines()
    assert place.ids[0] in refusal
    assert "Operation not permitted" in refusal
    assert "removed the output of 5 tasks" in summary


def test_output_of_a_recent_task_is_kept_until_it_is_old_enough(places: list[Place]) -> None:
    place = make(places, quota=5000, first_end_ns=START_NS - 10**8)
    place.retention.limits = replace(place.retention.limits, min_age_s=0.5)
    place.retention.check_soon()
    place.run(0.1)
    assert len(place.left()) == 10
    place.run(0.6)
    assert len(place.left()) == 5
    # Unless a task waits for the room.
    place.is_awaited = True
    place.retention.limits = replace(place.retention.limits, min_age_s=3600.0, quota=3000)
    place.retention.check_soon(urgent=True)
    place.run(0.1)
    assert len(place.left()) == 3


def test_output_of_a_task_that_ended_in_the_future_is_not_kept_for_that(places: list[Place]) -> None:
    """The clock was set back."""
    place = make(places, quota=5000, first_end_ns=START_NS + 10**12)
    place.retention.limits = replace(place.retention.limits, min_age_s=0.5)
    place.retention.check_soon()
    place.run(0.1)
    assert place.left() == [5, 6, 7, 8, 9]


def test_a_registry_that_cannot_be_read_puts_it_off(
    places: list[Place], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = make(places, quota=5000)

    def refuse(_self: Registry) -> None:
        raise RegistryUnusableError("disk I/O error")

    place.retention.check_soon()
    with monkeypatch.context() as broken:
        broken.setattr(Registry, "oldest_logs", refuse)
        place.run()
    assert len(place.left()) == 10
    assert "disk I/O error" in capfd.readouterr().err
    place.retention.check_soon()
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
    next_place.retention.check_soon()
    next_place.run()
    assert next_place.left() == list(range(2, 12))
    assert next_place.registry.logs_bytes == 10_000


def test_half_removed_output_is_removed_to_its_end(places: list[Place]) -> None:
    place = make(places, quota=9500)
    os.unlink(f"tasks/{place.ids[0]}/stdout.0000000000000000.log")
    place.retention.check_soon()
    place.run()
    assert place.left() == list(range(1, 10))


def test_a_registry_made_anew_counts_what_is_there(places: list[Place]) -> None:
    place = make(places, quota=4500)
    place.retention.check_soon()
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
