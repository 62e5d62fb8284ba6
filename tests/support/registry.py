"""A registry for a test, in a file of its own. Owns: the registry."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.engine.storage.registry import Registry

__all__ = ["execute", "ids", "registry", "registry_path", "steps_of", "walk"]


@pytest.fixture
def registry_path(tmp_path: Path) -> str:
    return str(tmp_path / "registry.db")


@pytest.fixture
def registry(registry_path: str) -> Iterator[Registry]:
    one = Registry(registry_path)
    yield one
    one.close()


def ids(count: int) -> list[str]:
    return [f"{number:08x}-0000-4000-8000-000000000000" for number in range(count)]


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
    """Do something to the file as another program."""
    another_program = sqlite3.connect(registry_path)
    another_program.execute(statement)
    another_program.commit()
    another_program.close()
