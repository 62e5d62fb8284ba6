"""Fixtures of the process tests. Runs in: pytest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.zygote import Zygote


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    """A zygote of this test's own; no shim may have crashed."""
    one = Zygote(tmp_path)
    yield one
    one.close()
    assert one.crash_log() == ""


@pytest.fixture
def hasty_zygote(tmp_path: Path) -> Iterator[Zygote]:
    """One whose shims wait only half a second for a pipe that a stranger holds."""
    one = Zygote(tmp_path, drain_s=0.5)
    yield one
    one.close()
    assert one.crash_log() == ""
