"""Tickets: what was let in is known again, until it does not hold any more, and nothing else ever is."""

import base64
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
from supervisor.engine.access.authenticator import Authenticator
from supervisor.security.principal import Principal
from supervisor.security.roles import Role
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


def by_token(store: TokenStore, key: bytes = KEY, later_s: float = 0.0) -> Authenticator:
    """Return an authenticator whose monotonic clock is so many seconds ahead."""
    clock = lambda: time.monotonic() + later_s  # noqa: E731
    return Authenticator(Access(Known.TOKEN), "127.0.0.1:4321", store, key, monotonic=clock)


def talk(authenticator: Authenticator, token: Token) -> dict[str, str]:
    """Return what the front-end passes on of a dialogue with who has that token."""
    server_nonce, client_nonce = authenticator.make_nonce(), make_nonce(token.key)
    proof = client_proof(token.key, server_nonce, client_nonce, BINDING)
    fields = {"server_nonce": server_nonce, "client_nonce": client_nonce, "binding": BINDING, "proof": proof}
    return {name: value.hex() for name, value in fields.items()}


def test_a_client_that_proves_a_token_is_let_in_and_known_again(store: TokenStore) -> None:
    authenticator, token = by_token(store), store.add("ci", Role.USER)
    said = talk(authenticator, token)
    nonces = bytes.fromhex(said["server_nonce"]), bytes.fromhex(said["client_nonce"])
    assert authenticator.begin(said) == server_proof(token.key, *nonces, BINDING)
    client = authenticator.by_proof(said, "10.0.0.1:5")
    assert client.principal == Principal("ci", Role.USER)
    assert authenticator.recognise(client.ticket) == client
    # Another engine of the same state directory, after a crash.
    assert by_token(store).recognise(client.ticket) == client
    assert authenticator.once_known(client.ticket) == ("10.0.0.1:5", "ci")
    assert authenticator.once_known(client.ticket[:-1]) == ("?", None)


@pytest.mark.parametrize("field", ["server_nonce", "client_nonce", "binding", "proof"])
def test_nothing_of_a_dialogue_can_be_changed(store: TokenStore, field: str) -> None:
    authenticator = by_token(store)
    said = talk(authenticator, store.add("ci", Role.USER))
    data = bytearray(bytes.fromhex(said[field]))
    data[-1] ^= 1
    with pytest.raises(AuthenticationError, match=r"does not know this token|earlier connection"):
        authenticator.by_proof(said | {field: data.hex()}, "x")


def test_only_our_own_nonces_are_the_beginning_of_a_dialogue(store: TokenStore) -> None:
    """Else an attacker in the front-end could choose a nonce, and use a client's answer to it for ever."""
    authenticator, other = by_token(store), by_token(store, bytes([1]) * 32)
    # All of it is right, the time as well, but who made the nonce.
    said = talk(other, store.add("ci", Role.USER))
    with pytest.raises(AuthenticationError, match="earlier connection"):
        authenticator.begin(said)
    with pytest.raises(AuthenticationError, match="earlier connection"):
        authenticator.by_proof(said, "x")
    assert other.by_proof(said, "x").principal.user == "ci"


@given(st.dictionaries(st.sampled_from(["server_nonce", "client_nonce", "binding", "proof"]), st.text() | st.none()))
def test_any_parameters_are_refused(params: dict[str, Any]) -> None:
    authenticator = Authenticator(Access(Known.TOKEN), "x", FakeStore(), KEY)  # type: ignore[arg-type]
    for ask in (authenticator.begin, lambda params: authenticator.by_proof(params, "x")):
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


def test_a_dialogue_is_good_once_and_not_later(store: TokenStore) -> None:
    """A recorded dialogue is of no use to an attacker who takes the front-end over."""
    authenticator, token = by_token(store), store.add("ci", Role.USER)
    said = talk(authenticator, token)
    authenticator.by_proof(said, "x")
    later = by_token(store, later_s=13)
    for ask in (later.begin, lambda said: later.by_proof(said, "x")):
        with pytest.raises(AuthenticationError, match="earlier connection"):
            ask(said)
    own_nonce = said | {"server_nonce": bytes(32).hex()}
    with pytest.raises(AuthenticationError, match="earlier connection"):
        authenticator.by_proof(own_nonce, "x")


def test_a_ticket_is_good_for_a_day(store: TokenStore) -> None:
    authenticator, token = by_token(store), store.add("ci", Role.USER)
    ticket = authenticator.by_proof(talk(authenticator, token), "x").ticket
    by_token(store, later_s=23 * 3600).recognise(ticket)
    with pytest.raises(AuthenticationError, match="any more"):
        by_token(store, later_s=25 * 3600).recognise(ticket)


def test_a_certificates_ticket_ends_with_the_certificate(store: TokenStore) -> None:
    shown = {"names": ["alice"], "not_after": time.time() + 100, "is_clients": True, "crl": ""}
    access = Access(Known.CERTIFICATE)
    ticket = Authenticator(access, "x", store, KEY).by_certificate(shown, "x").ticket
    later = Authenticator(access, "x", store, KEY, wall=lambda: time.time() + 200)
    with pytest.raises(AuthenticationError, match="any more"):
        later.recognise(ticket)
    with pytest.raises(AuthenticationError, match="expired"):
        later.by_certificate(shown, "x")


def test_a_ticket_ends_with_its_token(store: TokenStore) -> None:
    authenticator, token = by_token(store), store.add("ci", Role.USER)
    client = authenticator.by_proof(talk(authenticator, token), "x")
    store.revoke("ci")
    with pytest.raises(AuthenticationError, match="any more"):
        authenticator.recognise(client.ticket)
    # Nor does a later token of the same name bring it back.
    store.add("ci", Role.ADMIN)
    with pytest.raises(AuthenticationError, match="any more"):
        authenticator.recognise(client.ticket)


@given(st.data())
def test_no_other_ticket_is_known(data: st.DataObject) -> None:
    authenticator = Authenticator(Access(Known.TOKEN), "x", FakeStore(), KEY)  # type: ignore[arg-type]
    ticket = authenticator.by_proof(talk(authenticator, FakeStore().known()[0]), "x").ticket
    position = data.draw(st.integers(0, 999)) % len(ticket)
    letter = data.draw(st.characters())
    assume(letter != ticket[position])
    for other in (ticket[:position] + letter + ticket[position + 1 :], ticket[:-1], ticket + "0", "", ".", "a.b"):
        with pytest.raises(AuthenticationError):
            authenticator.recognise(other)


def test_a_ticket_of_another_levityd_is_not_known(store: TokenStore) -> None:
    token = store.add("ci", Role.USER)
    another = by_token(store, bytes(31) + b"x")
    ticket = another.by_proof(talk(another, token), "x").ticket
    with pytest.raises(AuthenticationError):
        by_token(store).recognise(ticket)
    body = json.loads(base64.urlsafe_b64decode(ticket.partition(".")[0]))
    forged = base64.urlsafe_b64encode(json.dumps(body | {"role": "admin"}).encode()).decode()
    with pytest.raises(AuthenticationError):
        by_token(store).recognise(f"{forged}.{ticket.partition('.')[2]}")


def test_levityds_own_name_is_an_administrators_only(store: TokenStore) -> None:
    """Its tasks are those without an owner, too."""
    own = store.own()
    assert own is not None
    by_tokens = by_token(store)
    assert by_tokens.by_proof(talk(by_tokens, own), "x").principal.role is Role.ADMIN
    authenticator = Authenticator(Access(Known.CERTIFICATE), "x", store, KEY)
    shown = {"names": [authenticator.own_user], "not_after": 4e9, "is_clients": True, "crl": ""}
    with pytest.raises(AuthenticationError, match="administrator"):
        authenticator.by_certificate(shown, "x")
    store.set_role(authenticator.own_user, Role.ADMIN)
    assert authenticator.by_certificate(shown, "x").principal.role is Role.ADMIN


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
    authenticator = Authenticator(Access(Known.CERTIFICATE), "x", store, KEY)
    good = {"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": ""}
    assert authenticator.by_certificate(good, "x").principal == Principal("alice", Role.USER)
    with pytest.raises(AuthenticationError):
        authenticator.by_certificate(good | shown, "x")


@pytest.mark.parametrize("crl", ["another", None, 1])
def test_a_client_judged_by_an_earlier_list_has_to_try_again(store: TokenStore, crl: object) -> None:
    authenticator = Authenticator(Access(Known.CERTIFICATE), "x", store, KEY)
    with pytest.raises(Unavailable, match="again"):
        authenticator.by_certificate({"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": crl}, "x")


def test_a_certificates_ticket_ends_with_the_list_of_those_revoked(store: TokenStore, state: Path) -> None:
    crl = state / "crl.pem"
    crl.write_text("one")
    authenticator = Authenticator(Access(Known.CERTIFICATE, crl_path=str(crl)), "x", store, KEY)
    shown = {"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": authenticator.crl_version()}
    ticket = authenticator.by_certificate(shown, "x").ticket
    store.set_role("alice", Role.VIEWER)
    assert authenticator.recognise(ticket).principal.role is Role.VIEWER
    crl.write_text("another")
    with pytest.raises(AuthenticationError, match="any more"):
        authenticator.recognise(ticket)


def test_without_roles_no_client_gets_in_by_a_certificate(store: TokenStore, state: Path) -> None:
    """A viewer would be a user otherwise."""
    (state / "roles.json").write_text("{")
    authenticator = Authenticator(Access(Known.CERTIFICATE), "x", store, KEY)
    with pytest.raises(AuthenticationError, match="role"):
        authenticator.by_certificate({"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": ""}, "x")


def test_only_a_connection_that_was_accepted_here_shows_who_it_is(store: TokenStore, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    authenticator = Authenticator(Access(Known.PEER), f"unix:{path}", store, KEY)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        accepted, _address = listener.accept()
        pair = socket.socketpair()
        file = os.open(os.devnull, os.O_RDONLY)
        with accepted, pair[0], pair[1], socket.socket() as tcp:
            who = authenticator.by_peer(accepted.fileno()).principal
            # One that has left is still told of by the kernel, and could be shown for ever.
            with socket.socket(socket.AF_UNIX) as gone:
                gone.connect(path)
                left, _address = listener.accept()
            with left, pytest.raises(AuthenticationError, match="no connection to this levityd"):
                authenticator.by_peer(left.fileno())
            assert (who.uid, who.role) == (os.geteuid(), Role.ADMIN)
            # The far end of the client, and of the listener, is the listener's user: root, at a service of root's.
            for other in (client, listener, pair[0], tcp):
                with pytest.raises(AuthenticationError, match="no connection to this levityd"):
                    authenticator.by_peer(other.fileno())
            with pytest.raises(AuthenticationError):
                authenticator.by_peer(file)
        os.close(file)


def test_a_connection_to_another_users_service_is_not_accepted(store: TokenStore, tmp_path: Path) -> None:
    """Even if it is bound to our address itself: the far end belongs to the user who runs that service."""
    path = str(tmp_path / "s")
    authenticator = Authenticator(Access(Known.PEER), f"unix:{path}", store, KEY)
    with socket.socket(socket.AF_UNIX) as service, socket.socket(socket.AF_UNIX) as client:
        service.bind(str(tmp_path / "service"))
        service.listen()
        client.bind(path)
        client.connect(str(tmp_path / "service"))
        with pytest.raises(AuthenticationError, match="no connection to this levityd"):
            authenticator.by_peer(client.fileno())


def test_each_way_in_is_closed_where_another_is_meant(store: TokenStore) -> None:
    said = talk(by_token(store), store.add("ci", Role.USER))
    shown = {"names": ["alice"], "not_after": 4e9, "is_clients": True, "crl": ""}
    for known in Known:
        authenticator = Authenticator(Access(known), "x", store, KEY)
        if known is not Known.TOKEN:
            with pytest.raises(AuthenticationError, match="in this way"):
                authenticator.by_proof(said, "x")
        if known is not Known.CERTIFICATE:
            with pytest.raises(AuthenticationError, match="in this way"):
                authenticator.by_certificate(shown, "x")
        if known is not Known.PEER:
            with pytest.raises(AuthenticationError, match="in this way"):
                authenticator.by_peer(0)


def test_a_token_of_levityds_own_name_is_an_administrators_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """`levityd token add` makes none; but an operator may have put a file there."""
    authenticator = Authenticator(Access(Known.TOKEN), "x", FakeStore(), KEY)  # type: ignore[arg-type]
    monkeypatch.setattr(authenticator, "own_user", "ci")
    with pytest.raises(AuthenticationError, match="administrator"):
        authenticator.by_proof(talk(authenticator, FakeStore().known()[0]), "x")
