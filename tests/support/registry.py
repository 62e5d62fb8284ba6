"""A registry for a test, in a file of its own. Owns: the registry."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.engine.storage.registry import Registry

__all__ = ["ids", "registry", "registry_path", "steps_of"]


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
