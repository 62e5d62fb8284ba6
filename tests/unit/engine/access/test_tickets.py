"""Tickets: signed text that comes back as it was, and nothing else does; and the key that signs them."""

import base64
import errno
import hmac
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.errors import AuthenticationError
from supervisor.engine.access.tickets import STALE, Ticket, open_ticket, sign_ticket, ticket_key
from supervisor.security import private_files as private
from supervisor.security.principal import Principal
from supervisor.security.roles import Role
from supervisor.settings import Known

KEY = bytes(range(32))

numbers = st.none() | st.integers(0, 2**32)
principals = st.builds(
    Principal,
    st.text(),
    st.sampled_from(Role),
    numbers,
    numbers,
    st.none() | st.lists(st.integers(0, 2**32)).map(tuple),
)
times = st.floats(allow_nan=False, allow_infinity=False)
tickets = st.builds(Ticket, st.sampled_from(Known), principals, st.text(), times, st.text(), times, st.text())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state"
    path.mkdir(0o700)
    monkeypatch.chdir(path)
    return path


def signed(body: bytes) -> str:
    """Return what levityd itself would have signed."""
    text = base64.urlsafe_b64encode(body).decode()
    return f"{text}.{hmac.digest(KEY, text.encode(), 'sha256').hex()}"


@given(tickets)
def test_a_ticket_comes_back_as_it_was(ticket: Ticket) -> None:
    text = sign_ticket(KEY, ticket)
    assert text.isascii()
    assert open_ticket(KEY, text) == ticket
    with pytest.raises(AuthenticationError, match="not known"):
        open_ticket(bytes(32), text)


@given(st.text() | st.tuples(st.text(), st.text()).map(".".join))
def test_any_other_text_is_no_ticket(text: str) -> None:
    with pytest.raises(AuthenticationError):
        open_ticket(KEY, text)


OLD = {"k": "peer", "u": "root", "r": "admin", "i": 0, "g": 0, "G": [0], "p": "x", "a": 1.0}


@given(json_values.map(json.dumps).map(str.encode) | st.binary())
def test_a_ticket_signed_in_another_form_means_connect_again(body: bytes) -> None:
    with pytest.raises(AuthenticationError, match="connect again"):
        open_ticket(KEY, signed(body))


def test_the_form_of_an_older_or_newer_levity_means_connect_again() -> None:
    now = json.loads(Ticket(Known.PEER, Principal("a", Role.USER), "x", 1.0).to_json())
    assert open_ticket(KEY, signed(json.dumps(now | {"more": 1}).encode())).principal.user == "a"
    forms: list[object] = [OLD, now | {"version": 3}, now | {"role": "king"}, now | {"groups": 1}]
    forms += [{key: value for key, value in now.items() if key != missing} for missing in now]
    for form in forms:
        with pytest.raises(AuthenticationError) as caught:
            open_ticket(KEY, signed(json.dumps(form).encode()))
        assert caught.value.message == STALE
    # No base64.
    text = "\u00e9"
    signature = hmac.digest(KEY, text.encode("ascii", "replace"), "sha256").hex()
    with pytest.raises(AuthenticationError, match="connect again"):
        open_ticket(KEY, f"{text}.{signature}")


def test_the_key_of_tickets_is_made_once_and_for_us_alone(state: Path) -> None:
    key = ticket_key()
    path = state / "ticket.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (ticket_key(), len(key)) == (key, 32)
    path.chmod(0o644)
    assert ticket_key() != key
    path.write_bytes(b"short")
    assert len(ticket_key()) == 32


def test_a_disk_that_takes_no_key_keeps_no_client_out(
    state: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(private, "create", full)
    assert len(ticket_key()) == 32
    assert "No space left" in capfd.readouterr().err
    assert list(state.iterdir()) == []
