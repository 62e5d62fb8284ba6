"""The registry is an index: damaged or deleted it is made anew, and nothing is lost."""

import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from levity.states import State
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import client_of, ended, output, sh

# Enough for several pages of table and index.
TASKS = 40

JsonObject = dict[str, Any]


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))


def text(path: Path) -> None:
    path.write_text("This is not a registry.\n" * 500)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def keep_one_page(path: Path) -> None:
    os.truncate(path, 4096)


def flip_pages(path: Path) -> None:
    """Overwrite every page but the first with noise."""
    noise = random.Random(2)
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(noise.randbytes(4096))


def flip_first_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(random.Random(3).randbytes(900))


def execute(path: Path, statement: str) -> None:
    database = sqlite3.connect(path)
    database.execute(statement)
    database.commit()
    database.close()


def foreign(path: Path) -> None:
    """A healthy database of some other program."""
    path.unlink()
    execute(path, "CREATE TABLE bookmarks (url TEXT)")


def drop_table(path: Path) -> None:
    execute(path, "DROP TABLE tasks")


def drop_rows(path: Path) -> None:
    execute(path, "DELETE FROM tasks")


def break_json(path: Path) -> None:
    """What a flipped bit in a row does, and SQLite does not notice."""
    execute(path, "UPDATE tasks SET spec = replace(spec, '{', '(')")


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = (
    delete,
    empty,
    garbage,
    text,
    truncate,
    keep_one_page,
    flip_pages,
    flip_first_page,
    foreign,
    drop_table,
    drop_rows,
    break_json,
    make_directory,
)


def populated(daemon: Daemon) -> dict[str, JsonObject]:
    """Run tasks of all kinds, stop levityd, and return their records."""
    with client_of(daemon.address) as client:
        over = [sh(client, f"echo {number}; exit {number}") for number in range(TASKS)]
        for task_id in over:
            ended(client, task_id)
        running = [sh(client, "exec sleep 600") for _ in range(3)]
        records = {task_id: client.query(task_id).raw for task_id in over + running}
    daemon.stop()
    execute(daemon.state_dir / "registry.db", "PRAGMA wal_checkpoint(TRUNCATE)")
    return records


def check(daemon: Daemon, records: dict[str, JsonObject]) -> None:
    with client_of(daemon.address) as client:
        assert {task_id: client.query(task_id).raw for task_id in records} == records
        assert set(records) <= {record.id for record in client.list(all=True)}
        assert output(client, next(iter(records))) == (b"0\n", b"")
        assert ended(client, sh(client, "exit 12")).exit_code == 12


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_registry_is_made_anew_and_nothing_is_lost(daemon: Daemon, damage: Callable[[Path], None]) -> None:
    records = populated(daemon)
    registry = daemon.state_dir / "registry.db"
    assert registry.stat().st_size > 3 * 4096, "too few tasks to damage much"
    damage(registry)
    daemon.start()
    check(daemon, records)
    daemon.restart()
    check(daemon, records)
    assert "Traceback" not in daemon.stderr_text()


def test_the_damaged_file_is_kept_aside_and_the_operator_told(daemon: Daemon) -> None:
    daemon.stop()
    noise = random.Random(4).randbytes(9000)
    (daemon.state_dir / "registry.db").write_bytes(noise)
    daemon.start()
    aside = daemon.state_dir / "registry.db.corrupt-1"
    assert aside.read_bytes() == noise
    (line,) = [line for line in daemon.stderr_text().splitlines() if "damaged" in line]
    assert aside.name in line


def test_a_registry_damaged_while_levityd_was_killed(daemon: Daemon) -> None:
    """With the write-ahead log still there."""
    with client_of(daemon.address) as client:
        over, running = sh(client, "exit 3"), sh(client, "exec sleep 600")
        ended(client, over)
        daemon.kill_all()
        for path in daemon.state_dir.glob("registry.db*"):
            path.write_bytes(os.urandom(path.stat().st_size))
        daemon.start()
        assert client.query(over).exit_code == 3
        assert client.query(running).state is State.RUNNING


def test_a_registry_deleted_under_a_running_levityd_is_back_after_a_restart(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        before = sh(client, "exit 3")
        for path in daemon.state_dir.glob("registry.db*"):
            path.unlink()
        after = sh(client, "exit 4")
        assert [ended(client, task_id).exit_code for task_id in (before, after)] == [3, 4]
        daemon.restart()
        assert [client.query(task_id).exit_code for task_id in (before, after)] == [3, 4]


def test_a_program_that_locks_the_registry_keeps_no_client_waiting(daemon: Daemon) -> None:
    """The engine has one thread. It answers from memory, and stores the tasks when the lock is gone."""
    path = daemon.state_dir / "registry.db"
    with client_of(daemon.address) as client:
        before = [sh(client, "exit 2") for _ in range(3)]
        with closing(sqlite3.connect(path, isolation_level=None)) as another_program:
            another_program.execute("BEGIN EXCLUSIVE")
            # Among them are ends of tasks whose start is stored.
            assert [ended(client, task_id).exit_code for task_id in before] == [2, 2, 2]
            tasks = [sh(client, f"exit {number}") for number in range(5)]
            assert [ended(client, task_id).exit_code for task_id in tasks] == list(range(5))
            longest_s = 0.0
            give_up_at = time.monotonic() + 3
            while time.monotonic() < give_up_at:  # The engine tries to commit about three times meanwhile.
                begun = time.monotonic()
                assert [record.id for record in client.list(all=True)] == before + tasks
                assert client.query(tasks[-1]).exit_code == 4
                longest_s = max(longest_s, time.monotonic() - begun)
            assert longest_s < 1.5, "it waited for the lock"
            another_program.execute("ROLLBACK")

        def stored() -> bool:
            with closing(sqlite3.connect(path)) as another_program:
                found = another_program.execute("SELECT id FROM tasks WHERE over = 1 ORDER BY rowid").fetchall()
            return [task_id for (task_id,) in found] == before + tasks

        eventually(stored, "the registry to have all tasks")


def test_a_registry_made_anew_lists_tasks_in_the_order_of_their_start(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        tasks = [sh(client, "exit 0") for _ in range(20)]
        daemon.stop()
        (daemon.state_dir / "registry.db").unlink()
        daemon.start()
        assert [record.id for record in client.list(all=True)] == tasks


def test_flipped_bits_never_lead_to_a_wrong_answer(daemon: Daemon) -> None:
    """LEVITY_FLIP_SEED, which is printed, repeats the choice of bits."""
    records = populated(daemon)
    pristine = (daemon.state_dir / "registry.db").read_bytes()
    seed = int(os.environ.get("LEVITY_FLIP_SEED") or random.randrange(10**6))
    print(f"LEVITY_FLIP_SEED={seed}")
    chance = random.Random(seed)
    for turn in range(5):
        damaged = bytearray(pristine)
        for _flip in range(1 + turn % 3):
            damaged[chance.randrange(100, len(damaged))] ^= 1 << chance.randrange(8)
        for path in daemon.state_dir.glob("registry.db*"):
            path.unlink()
        (daemon.state_dir / "registry.db").write_bytes(damaged)
        daemon.start()
        with client_of(daemon.address) as client:
            answers = {task_id: client.query(task_id).raw for task_id in records}
        assert answers == records
        daemon.stop()
