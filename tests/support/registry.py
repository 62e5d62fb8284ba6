"""A registry for a test, in a file of its own. Owns: the registry."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.engine.storage.registry import Registry

__all__ = ["ids", "registry", "registry_path"]


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
