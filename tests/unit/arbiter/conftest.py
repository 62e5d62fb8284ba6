"""What tests of the arbiter have in common. Runs in: pytest."""

from pathlib import Path

import pytest


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory, and this process is in it, as levityd is."""
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    monkeypatch.chdir(path)
    return path
