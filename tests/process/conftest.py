"""Fixtures of the process tests. Runs in: pytest."""

import os
import subprocess
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


@pytest.fixture(scope="module")
def shared_zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """A zygote for the tests of a module that do it no harm; no shim may have crashed."""
    one = Zygote(tmp_path_factory.mktemp("zygote"))
    yield one
    one.close()
    assert one.crash_log() == ""


@pytest.fixture
def hasty_zygote(tmp_path: Path) -> Iterator[Zygote]:
    """A zygote whose shims wait two seconds for a pipe that a process outside the task's tree holds open."""
    one = Zygote(tmp_path, drain_s=2.0)
    yield one
    one.close()
    assert one.crash_log() == ""


@pytest.fixture
def tight_zygote(tmp_path: Path) -> Iterator[Zygote]:
    """A zygote whose state directory has room for one MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], check=False)
    if done.returncode:
        pytest.skip("this root may not mount")
    try:
        one = Zygote(tmp_path, drain_s=0.3)
        try:
            yield one
        finally:
            one.close()
        assert one.crash_log() == ""
    finally:
        subprocess.run(["umount", tmp_path], check=True)
