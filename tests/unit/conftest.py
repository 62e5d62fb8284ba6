"""What tests of the client have in common. Runs in: pytest."""

from pathlib import Path

import pytest

from tests.support.certificates import Authority, Certificate, make_ca, self_signed


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """What levityd makes itself: of no authority, and for no name that we use."""
    return self_signed(tmp_path_factory.mktemp("own"), ["elsewhere.example"])


@pytest.fixture
def no_tls_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client finds neither files nor a token but those that it is given."""
    for name in ("CACERT", "CLIENT_CERT", "CLIENT_KEY", "TOKEN_FILE"):
        monkeypatch.delenv(f"LEVITY_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LEVITY_STATE_DIR", str(tmp_path))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a token: returns a new directory, with config/ and state/ in it."""
    for name in ("TOKEN_FILE", "STATE_DIR", "CACERT", "CLIENT_CERT", "CLIENT_KEY", "ADDR"):
        monkeypatch.delenv(f"LEVITY_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LEVITY_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return tmp_path
