"""What tests of levityd's own commands have in common. Runs in: pytest."""

import subprocess
from pathlib import Path

import pytest

from tests.support.launch import Run, run_levityd


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def levityd(place: Path) -> Run:
    """Run a levityd command on that state directory."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_levityd(*arguments, "--state-dir", str(place))

    return run
