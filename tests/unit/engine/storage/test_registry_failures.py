"""The registry while its file takes nothing: what is known stays known, is answered right, and is stored later."""

import itertools
import random
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.engine.storage.registry import Logs, Registry, RegistryUnusableError, Row
from tests.support.records import an_end, spec
from tests.support.registry import ids

Fault = Callable[[Registry, str], AbstractContextManager[None]]

OWNERS = ["alice", "bob", ""]


@contextmanager
def another_program_writes(_registry: Registry, path: str) -> Iterator[None]:
    """The commit fails at its first statement."""
    with closing(sqlite3.connect(path, isolation_level=None)) as another_program:
        another_program.execute("BEGIN EXCLUSIVE")
        yield
        another_program.execute("ROLLBACK")


@contextmanager
def no_page_is_left(registry: Registry, _path: str) -> Iterator[None]:
    """The commit fails at the statement that needs another page: SQLITE_FULL."""
    (pages,) = registry._db.execute("PRAGMA main.page_count").fetchone()
    registry._db.execute(f"PRAGMA main.max_page_count = {pages}")
    yield
    registry._db.execute("PRAGMA main.max_page_count = 4294967294")


@contextmanager
def files_cannot_grow(_registry: Registry, path: str) -> Iterator[None]:
    """The commit fails at its last statement, in write(2), with some of it written: SQLITE_IOERR."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(path + "-wal").stat().st_size + 100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def interrupted_at(step: int) -> Fault:
    """The commit fails at some step of SQLite's machine."""

    @contextmanager
    def fault(registry: Registry, _path: str) -> Iterator[None]:
        # What only changes memory is not interrupted.
        commit = registry.commit

        def interrupted(wait_s: float = 0.0) -> bool:
            steps = itertools.count(1)
            registry._db.set_progress_handler(lambda: next(steps) == step, 1)
            try:
                return commit(wait_s)
            finally:
                registry._db.set_progress_handler(None, 0)

        registry.commit = interrupted  # type: ignore[method-assign]
        yield
        registry.commit = commit  # type: ignore[method-assign]

    return fault


FAULTS = {
    "another program's lock": another_program_writes,
    "the disk is full": no_page_is_left,
    "an error in write(2)": files_cannot_grow,
    "interrupted at once": interrupted_at(1),
    "interrupted later": interrupted_at(150),
}

each_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())


class Model:
    """What a registry should know, in plain dicts."""

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[str, bool]] = {}  # In the order of their acceptance: owner, and whether it is over.
        self.logs: dict[str, tuple[int, int]] = {}  # When the task ended, and how many bytes.

    def pages(self, registry: Registry, owner: str | None, *, live_only: bool) -> list[str]:
        found: list[str] = []
        after = 0
        while page := registry.page(after, 4, live_only=live_only, owner=owner):
            found += [row.id for _number, row in page]
            assert page[0][0] > after
            after = page[-1][0]
        return found

    def check(self, registry: Registry) -> None:
        assert registry.all_ids() == set(self.tasks)
        live = [task_id for task_id, (_owner, over) in self.tasks.items() if not over]
        assert [row.id for row in registry.live()] == live
        for owner in (None, *OWNERS):
            own = [task_id for task_id, (one, _over) in self.tasks.items() if owner in {None, one}]
            assert self.pages(registry, owner, live_only=False) == own
            assert self.pages(registry, owner, live_only=True) == [one for one in own if one in live]
            assert registry.ids_from("0", 5, owner) == sorted(own)[:5]
        for task_id, (owner, over) in self.tasks.items():
            row = registry.get(task_id)
            assert row is not None
            assert (row.owner, row.outcome is not None) == (owner, over)
        assert registry.logs_bytes == sum(stored for _ended_ns, stored in self.logs.values())
        oldest = registry.oldest_logs()
        wanted = min(self.logs, key=lambda one: self.logs[one], default=None)
        assert (oldest and oldest.id) == wanted
        assert oldest is None or (oldest.ended_ns, oldest.stored) == self.logs[oldest.id]


def row_of(task_id: str, owner: str, outcome: dict[str, Any] | None = None) -> Row:
    # Long enough for a page or two, so that a full disk is noticed.
    asked = spec(id=task_id, argv=["ls", "x" * 3000], owner=owner)
    return Row(task_id, asked, None if outcome is None else an_end(**outcome))


class Changes:
    """Random changes, done to a registry and to its model."""

    def __init__(self, registry: Registry, seed: int) -> None:
        self.registry = registry
        self.model = Model()
        self._chance = random.Random(seed)
        self._new = self._chance.sample(ids(1000), 1000)

    def step(self) -> None:
        actions = [self._start, self._start, self._end, self._end, self._fail_start, self._drop, self._put_off]
        self._chance.choice(actions)()

    def _start(self) -> None:
        task_id, owner = self._new.pop(), self._chance.choice(OWNERS)
        self.registry.put(row_of(task_id, owner))
        self.model.tasks[task_id] = (owner, False)

    def _live(self) -> str | None:
        live = [task_id for task_id, (_owner, over) in self.model.tasks.items() if not over]
        return self._chance.choice(live) if live else None

    def _end(self) -> None:
        if task_id := self._live():
            owner = self.model.tasks[task_id][0]
            stored, ended_ns = self._chance.choice([0, 7, 70]), self._chance.randrange(2**60)
            outcome = {"state": "Finished", "ended_ns": ended_ns, "stored_bytes": stored}
            self.registry.put(row_of(task_id, owner, outcome))
            self.model.tasks[task_id] = (owner, True)
            if stored:
                self.model.logs[task_id] = (ended_ns, stored)

    def _fail_start(self) -> None:
        if task_id := self._live():
            self.registry.remove(task_id)
            del self.model.tasks[task_id]

    def _drop(self) -> None:
        if oldest := self.registry.oldest_logs():
            self.registry.drop_logs(oldest)
            del self.model.logs[oldest.id]

    def _put_off(self) -> None:
        if oldest := self.registry.oldest_logs():
            time_ns = self._chance.randrange(2**60)
            self.registry.put_off_logs(oldest, time_ns)
            self.model.logs[oldest.id] = (time_ns, oldest.stored)


@contextmanager
def file_is_unreadable(registry: Registry) -> Iterator[None]:
    """All questions fail, as they do where the file cannot be read."""
    statements = [""]
    registry._db.set_trace_callback(statements.append)
    registry._db.set_progress_handler(lambda: "known_" in statements[-1], 1)
    yield
    registry._db.set_progress_handler(None, 0)
    registry._db.set_trace_callback(None)


@each_fault
@pytest.mark.parametrize("seed", range(4))
def test_changes_while_commits_fail_are_known_and_stored_later(
    registry: Registry, registry_path: str, fault: Fault, seed: int
) -> None:
    changes = Changes(registry, seed)
    failed = 0
    for _round in range(4):
        for _change in range(12):
            changes.step()
        assert registry.commit()
        changes.model.check(registry)
        with fault(registry, registry_path):
            for _change in range(12):
                changes.step()
                changes.model.check(registry)
                failed += not registry.commit()
                changes.model.check(registry)
    assert failed > 4
    assert registry.commit()
    assert not registry.has_unstored
    changes.model.check(registry)
    with closing(Registry(registry_path)) as other:
        changes.model.check(other)


def test_a_commit_may_fail_at_any_step_of_sqlite(registry: Registry, registry_path: str) -> None:
    changes = Changes(registry, 9)
    for _change in range(10):
        changes.step()
    step = 0
    while True:
        step += 1
        with interrupted_at(step)(registry, registry_path):
            if registry.commit():
                break
        assert not registry._db.in_transaction
        assert registry.has_unstored
        if not step % 20:
            changes.model.check(registry)
            with closing(Registry(registry_path)) as other:
                # All, when only the memory of it could not be emptied any more.
                assert other.all_ids() in (set(), set(changes.model.tasks))
    assert step > 100
    with closing(Registry(registry_path)) as other:
        changes.model.check(other)


def test_a_task_keeps_its_number_when_it_is_stored(registry: Registry, registry_path: str) -> None:
    """So that a client which reads a list goes on where it was."""
    first, removed, second, third = ids(4)
    with another_program_writes(registry, registry_path):
        for task_id in (first, removed, second, third):
            registry.put(row_of(task_id, ""))
        registry.remove(removed)
        assert not registry.commit()
        before = [(number, row.id) for number, row in registry.page(0, 9, live_only=False)]
    assert registry.commit()
    assert [(number, row.id) for number, row in registry.page(0, 9, live_only=False)] == before
    assert [row.id for _number, row in registry.page(before[0][0], 9, live_only=False)] == [second, third]
    with closing(Registry(registry_path)) as other:
        assert [(number, row.id) for number, row in other.page(0, 9, live_only=False)] == before


def test_another_programs_lock_does_not_block_a_commit(registry: Registry, registry_path: str) -> None:
    """The engine has one thread: while it waits here, no client is answered."""
    with another_program_writes(registry, registry_path):
        begun = time.monotonic()
        for task_id in ids(3):
            registry.put(row_of(task_id, ""))
            assert not registry.commit()
            assert registry.get(task_id) is not None
        assert time.monotonic() - begun < 1.5  # It would be seconds for each commit, if it waited.


def test_the_last_commit_waits_for_a_lock(registry: Registry, registry_path: str) -> None:
    registry.put(row_of(ids(1)[0], ""))
    with another_program_writes(registry, registry_path):
        begun = time.monotonic()
        assert not registry.commit(wait_s=0.3)
        assert time.monotonic() - begun >= 0.3
    assert registry.commit(wait_s=0.3)


def test_another_program_reads_and_writes_while_nothing_is_committed(registry: Registry, registry_path: str) -> None:
    registry.put(row_of(ids(1)[0], ""))
    with closing(sqlite3.connect(registry_path, isolation_level=None, timeout=0)) as another_program:
        assert another_program.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
        another_program.execute("BEGIN EXCLUSIVE")
        another_program.execute("ROLLBACK")
    assert registry.commit()


def test_a_change_needs_no_file_that_can_be_read(registry: Registry) -> None:
    """The tasks' records are on the disk by then, and an engine must not end because of its index."""
    known, new, gone = ids(3)
    for task_id in (known, gone):
        registry.put(row_of(task_id, "alice"))
    assert registry.commit()
    with file_is_unreadable(registry):
        registry.put(row_of(known, "alice", {"state": "Finished", "ended_ns": 1, "stored_bytes": 5}))
        registry.put(row_of(new, "alice"))
        registry.remove(gone)
        with pytest.raises(RegistryUnusableError):
            registry.all_ids()
        # What was changed since the last commit needs no file to be told.
        row = registry.get(known)
        assert row is not None
        assert row.outcome is not None
    for _ in range(2):
        assert registry.all_ids() == {known, new}
        assert [row.id for row in registry.live()] == [new]
        assert registry.logs_bytes == 5
        assert registry.commit()
    assert [row.id for _number, row in registry.page(0, 9, live_only=False)] == [known, new]


def test_a_stored_row_takes_no_memory_any_more(registry: Registry) -> None:
    def pages() -> int:
        return int(registry._db.execute("PRAGMA unstored.page_count").fetchone()[0])

    before = pages()
    for task_id in ids(500):
        registry.put(row_of(task_id, "", {"state": "Finished", "ended_ns": 8, "stored_bytes": 1}))
    assert pages() > 400
    assert registry.commit()
    assert pages() <= before + 5


def test_logs_of_equal_age_are_all_found(registry: Registry) -> None:
    for task_id in ids(5):
        registry.put(row_of(task_id, "", {"state": "Finished", "ended_ns": 8, "stored_bytes": 1}))
    found: list[Logs] = []
    while oldest := registry.oldest_logs():
        found.append(oldest)
        registry.drop_logs(oldest)
    assert sorted(logs.id for logs in found) == ids(5)
