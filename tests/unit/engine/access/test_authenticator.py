"""Tickets: what was let in is known again, until it does not hold any more, and nothing else ever is."""

import base64
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from levity.errors import AuthenticationError, InvalidRequest, Unavailable
from levity.protocol.token_proof import client_proof, is_nonce_of, make_nonce, server_proof
from supervisor.engine.access.authenticator import Authority, ticket_key
from supervisor.security import private_files as private
from supervisor.security.principal import Principal, Role
from supervisor.security.tokens import Token, TokenStore
from supervisor.settings import Access, Known

KEY = bytes(32)
BINDING = b"tcp:127.0.0.1:4321"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state"
    path.mkdir(0o700)
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def store(state: Path) -> Iterator[TokenStore]:
    with TokenStore(str(state)) as one:
        one.ensure_own()
        yield one


def by_token(store: TokenStore, key: bytes = KEY) -> Authority:
    return Authority(Access(Known.TOKEN), "127.0.0.1:4321", store, key)


def talk(authority: Authority, token: Token) -> dict[str, str]:
    """Return what the front-end passes on of a dialogue with who has that token."""
    server_nonce, client_nonce = authority.make_nonce(), make_nonce(token.key)
    proof = client_proof(token.key, server_nonce, client_nonce, BINDING)
    fields = {"server_nonce": server_nonce, "client_nonce": client_nonce, "binding": BINDING, "proof": proof}
    return {name: value.hex() for name, value in fields.items()}


def test_who_proves_a_token_is_let_in_and_known_again(store: TokenStore) -> None:
    authority, token = by_token(store), store.add("ci", Role.USER)
    said = talk(authority, token)
    nonces = bytes.fromhex(said["server_nonce"]), bytes.fromhex(said["client_nonce"])
    assert authority.begin(said) == server_proof(token.key, *nonces, BINDING)
    client = authority.by_proof(said, "10.0.0.1:5")
    assert client.principal == Principal("ci", Role.USER)
    assert authority.recognise(client.ticket) == client
    # Another engine of the same state directory, after a crash.
    assert by_token(store).recognise(client.ticket) == client


@pytest.mark.parametrize("field", ["server_nonce", "client_nonce", "binding", "proof"])
def test_nothing_of_a_dialogue_can_be_changed(store: TokenStore, field: str) -> None:
    authority = by_token(store)
    said = talk(authority, store.add("ci", Role.USER))
    data = bytearray(bytes.fromhex(said[field]))
    data[-1] ^= 1
    with pytest.raises(AuthenticationError, match=r"does not know this token|earlier connection"):
        authority.by_proof(said | {field: data.hex()}, "x")


def test_only_our_own_nonces_are_the_beginning_of_a_dialogue(store: TokenStore) -> None:
    """Whoever passes them on could else choose one, and use for ever what a client once answered to it."""
    authority, other = by_token(store), by_token(store, bytes([1]) * 32)
    # All of it is right, the time as well, but who made the nonce.
    said = talk(other, store.add("ci", Role.USER))
    with pytest.raises(AuthenticationError, match="earlier connection"):
        authority.begin(said)
    with pytest.raises(AuthenticationError, match="earlier connection"):
        authority.by_proof(said, "x")
    assert other.by_proof(said, "x").principal.user == "ci"


@given(st.dictionaries(st.sampled_from(["server_nonce", "client_nonce", "binding", "proof"]), st.text() | st.none()))
def test_any_parameters_are_refused(params: dict[str, Any]) -> None:
    authority = Authority(Access(Known.TOKEN), "x", FakeStore(), KEY)  # type: ignore[arg-type]
    for ask in (authority.begin, lambda params: authority.by_proof(params, "x")):
        with pytest.raises((AuthenticationError, InvalidRequest)):
            ask(params)


class FakeStore:
    def version(self) -> tuple[int, ...]:
        return (1,)

    def by_nonce(self, nonce: bytes) -> Token | None:
        return next((token for token in self.known() if is_nonce_of(token.key, nonce)), None)

    def known(self) -> list[Token]:
        return [Token("ci", Role.USER, bytes(range(32)), 0)]

    def roles(self) -> dict[str, Role]:
        return {}


def test_a_dialogue_is_good_once_and_not_later(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the front-end has seen of one is of no use to whoever takes it over."""
    authority, token = by_token(store), store.add("ci", Role.USER)
    said = talk(authority, token)
    authority.by_proof(said, "x")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 13)
    for ask in (authority.begin, lambda said: authority.by_proof(said, "x")):
        with pytest.raises(AuthenticationError, match="earlier connection"):
            ask(said)
    own_nonce = said | {"server_nonce": bytes(32).hex()}
    with pytest.raises(AuthenticationError, match="earlier connection"):
        authority.by_proof(own_nonce, "x")


def test_a_ticket_is_good_for_a_day(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, token = by_token(store), store.add("ci", Role.USER)
    ticket = authority.by_proof(talk(authority, token), "x").ticket
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 23 * 3600)
    authority.recognise(ticket)
    monkeypatch.setattr(time, "monotonic", lambda: now + 25 * 3600)
    with pytest.raises(AuthenticationError, match="any more"):
        authority.recognise(ticket)


def test_a_ticket_ends_with_its_token(store: TokenStore) -> None:
    authority, token = by_token(store), store.add("ci", Role.USER)
    client = authority.by_proof(talk(authority, token), "x")
    store.revoke("ci")
    with pytest.raises(AuthenticationError, match="any more"):
        authority.recognise(client.ticket)
    # Nor does a later token of the same name bring it back.
    store.add("ci", Role.ADMIN)
    with pytest.raises(AuthenticationError, match="any more"):
        authority.recognise(client.ticket)


@given(st.data())
def test_no_other_ticket_is_known(data: st.DataObject) -> None:
    authority = Authority(Access(Known.TOKEN), "x", FakeStore(), KEY)  # type: ignore[arg-type]
    ticket = authority.by_proof(talk(authority, FakeStore().known()[0]), "x").ticket
    position = data.draw(st.integers(0, 999)) % len(ticket)
    letter = data.draw(st.characters())
    assume(letter != ticket[position])
    for other in (ticket[:position] + letter + ticket[position + 1 :], ticket[:-1], ticket + "0", "", ".", "a.b"):
        with pytest.raises(AuthenticationError):
            authority.recognise(other)


def test_a_ticket_of_another_levityd_is_not_known(store: TokenStore) -> None:
    token = store.add("ci", Role.USER)
    another = by_token(store, bytes(31) + b"x")
    ticket = another.by_proof(talk(another, token), "x").ticket
    with pytest.raises(AuthenticationError):
        by_token(store).recognise(ticket)
    body = json.loads(base64.urlsafe_b64decode(ticket.partition(".")[0]))
    forged = base64.urlsafe_b64encode(json.dumps(body | {"r": "admin"}).encode()).decode()
    with pytest.raises(AuthenticationError):
        by_token(store).recognise(f"{forged}.{ticket.partition('.')[2]}")


def test_levityds_own_name_is_an_administrators_only(store: TokenStore) -> None:
    """Its tasks are those without an owner, too."""
    own = store.own()
    assert own is not None
    by_tokens = by_token(store)
    assert by_tokens.by_proof(talk(by_tokens, own), "x").principal.role is Role.ADMIN
    authority = Authority(Access(Known.CERTIFICATE), "x", store, KEY)
    shown = {"names": [authority.own_user], "not_after": 4e9, "is_clients": True, "crl": ""}
    with pytest.raises(AuthenticationError, match="administrator"):
        authority.by_certificate(shown, "x")
    store.set_role(authority.own_user, Role.ADMIN)
    assert authority.by_certificate(shown, "x").principal.role is Role.ADMIN


@pytest.mark.parametrize(
    "shown",
    [
        {"names": []},
        {"names": ["alice", "bob"]},
        {"names": ["alice\0"]},
        {"names": ["аlice"]},  # noqa: RUF001 - a Cyrillic letter
        {"names": ["../token"]},
        {"names": [""]},
        {"names": ["a" * 65]},
        {"names": "alice"},
        {"names": [1]},
        {"is_clients": False},
        {"is_clients": 1},
        {"not_after": 1.0},
        {"not_after": "never"},
        {"not_after": True},
    ],
)
def test_certificates_that_are_not_taken(store: TokenStore, shown: dict[str, Any]) -> None:
    authority = Authority(Access(Known.CERTIFICATE), "x", store, KEY)
    good = {"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": ""}
    assert authority.by_certificate(good, "x").principal == Principal("alice", Role.USER)
    with pytest.raises(AuthenticationError):
        authority.by_certificate(good | shown, "x")


@pytest.mark.parametrize("crl", ["another", None, 1])
def test_who_was_judged_by_an_earlier_list_has_to_try_again(store: TokenStore, crl: object) -> None:
    authority = Authority(Access(Known.CERTIFICATE), "x", store, KEY)
    with pytest.raises(Unavailable, match="again"):
        authority.by_certificate({"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": crl}, "x")


def test_a_certificates_ticket_ends_with_the_list_of_those_revoked(store: TokenStore, state: Path) -> None:
    crl = state / "crl.pem"
    crl.write_text("one")
    authority = Authority(Access(Known.CERTIFICATE, crl_path=str(crl)), "x", store, KEY)
    shown = {"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": authority.crl_version()}
    ticket = authority.by_certificate(shown, "x").ticket
    store.set_role("alice", Role.VIEWER)
    assert authority.recognise(ticket).principal.role is Role.VIEWER
    crl.write_text("another")
    with pytest.raises(AuthenticationError, match="any more"):
        authority.recognise(ticket)


def test_without_roles_nobody_gets_in_by_a_certificate(store: TokenStore, state: Path) -> None:
    """A viewer would be a user otherwise."""
    (state / "roles.json").write_text("{")
    authority = Authority(Access(Known.CERTIFICATE), "x", store, KEY)
    with pytest.raises(AuthenticationError, match="role"):
        authority.by_certificate({"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": ""}, "x")


def test_only_a_connection_that_was_accepted_here_shows_who_it_is(store: TokenStore, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    authority = Authority(Access(Known.PEER), f"unix:{path}", store, KEY)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        accepted, _address = listener.accept()
        pair = socket.socketpair()
        file = os.open(os.devnull, os.O_RDONLY)
        with accepted, pair[0], pair[1], socket.socket() as tcp:
            who = authority.by_peer(accepted.fileno()).principal
            # One that has left is still told of by the kernel, and could be shown for ever.
            with socket.socket(socket.AF_UNIX) as gone:
                gone.connect(path)
                left, _address = listener.accept()
            with left, pytest.raises(AuthenticationError, match="no connection to this levityd"):
                authority.by_peer(left.fileno())
            assert (who.uid, who.role) == (os.geteuid(), Role.ADMIN)
            # The far end of the client, and of the listener, is the listener's user: root, at a service of root's.
            for other in (client, listener, pair[0], tcp):
                with pytest.raises(AuthenticationError, match="no connection to this levityd"):
                    authority.by_peer(other.fileno())
            with pytest.raises(AuthenticationError):
                authority.by_peer(file)
        os.close(file)


def test_what_was_connected_to_somebody_elses_service_is_not_accepted_here(store: TokenStore, tmp_path: Path) -> None:
    """Even if it is bound to our address itself: at its far end is whoever runs that service."""
    path = str(tmp_path / "s")
    authority = Authority(Access(Known.PEER), f"unix:{path}", store, KEY)
    with socket.socket(socket.AF_UNIX) as service, socket.socket(socket.AF_UNIX) as client:
        service.bind(str(tmp_path / "service"))
        service.listen()
        client.bind(path)
        client.connect(str(tmp_path / "service"))
        with pytest.raises(AuthenticationError, match="no connection to this levityd"):
            authority.by_peer(client.fileno())


def test_each_way_in_is_closed_where_another_is_meant(store: TokenStore) -> None:
    said = talk(by_token(store), store.add("ci", Role.USER))
    shown = {"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": ""}
    for known in Known:
        authority = Authority(Access(known), "x", store, KEY)
        if known is not Known.TOKEN:
            with pytest.raises(AuthenticationError, match="in this way"):
                authority.by_proof(said, "x")
        if known is not Known.CERTIFICATE:
            with pytest.raises(AuthenticationError, match="in this way"):
                authority.by_certificate(shown, "x")
        if known is not Known.PEER:
            with pytest.raises(AuthenticationError, match="in this way"):
                authority.by_peer(0)


def test_the_key_of_tickets_is_made_once_and_for_us_alone(state: Path) -> None:
    key = ticket_key()
    path = state / "ticket.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (ticket_key(), len(key)) == (key, 32)
    path.chmod(0o644)
    assert ticket_key() != key
    path.write_bytes(b"short")
    assert len(ticket_key()) == 32


def test_a_token_of_levityds_own_name_is_an_administrators_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """`levityd token add` makes none; somebody may have put a file there."""
    authority = Authority(Access(Known.TOKEN), "x", FakeStore(), KEY)  # type: ignore[arg-type]
    monkeypatch.setattr(authority, "own_user", "ci")
    with pytest.raises(AuthenticationError, match="administrator"):
        authority.by_proof(talk(authority, FakeStore().known()[0]), "x")


def test_a_disk_that_takes_no_key_keeps_nobody_out(
    state: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(private, "create", full)
    assert len(ticket_key()) == 32
    assert "No space left" in capfd.readouterr().err
    assert list(state.iterdir()) == []
