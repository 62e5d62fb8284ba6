"""The token of levityd's own user is made by a process of its own."""

import os
from pathlib import Path

import pytest

from supervisor.arbiter import bootstrap_token
from supervisor.arbiter.bootstrap_token import make_bootstrap_token
from supervisor.arbiter.startup_error import CONFIGURATION, StartupError


def test_the_own_token_is_made_by_another_process(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has seen a key, the front-end is not forked from it."""
    make_bootstrap_token()
    text = (state / "token").read_text()
    make_bootstrap_token()
    assert (state / "token").read_text() == text
    monkeypatch.setattr(bootstrap_token, "_ensure", lambda: f"made by {os.getpid()}")
    with pytest.raises(StartupError, match="made by") as caught:
        make_bootstrap_token()
    assert caught.value.message.split()[-1] != str(os.getpid())
    monkeypatch.setattr(bootstrap_token, "_ensure", None)  # It fails in an unforeseen way.
    with pytest.raises(StartupError, match="could not be made"):
        make_bootstrap_token()


def test_an_own_token_that_cannot_be_believed(state: Path) -> None:
    (state / "token").write_text("levity_" + 64 * "0")
    (state / "token").chmod(0o644)
    with pytest.raises(StartupError, match="token: it has mode 0644") as caught:
        make_bootstrap_token()
    assert caught.value.status == CONFIGURATION
