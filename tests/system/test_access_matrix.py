"""Every operation, asked for by everybody who is not let in: one refusal, one line in the audit, nothing done."""

import json
import os
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from levity.protocol.frames import UNAUTHENTICATED_FRAME_LIMIT, json_frame
from levity.protocol.messages import request_frame
from levity.protocol.token_proof import make_nonce
from supervisor.security.roles import Role
from tests.support.attack import (
    INNER,
    OPERATIONS,
    OTHER_NAMES,
    check_refusal,
    connect,
    named_in_source,
    prove,
    read_all,
    read_bytes,
    read_one,
    request,
    secure,
)
from tests.support.certificates import Certificate, make_ca, self_signed
from tests.support.guarded import Guarded, Guards

NAMES = (*OPERATIONS, *INNER, *OTHER_NAMES)
JsonObject = dict[str, Any]
# Sends a request in one way, and returns what comes until the end of the connection.
Attempt = Callable[[Guards, bytes], list[JsonObject]]


def test_all_that_there_is_is_tried() -> None:
    assert named_in_source() == {*OPERATIONS, *INNER}


# By a token, plain


def unasked(guards: Guards, data: bytes) -> list[JsonObject]:
    with connect(guards.plain.address) as sock:
        sock.sendall(data)
        return read_all(sock)


def after_the_greeting(guards: Guards, data: bytes) -> list[JsonObject]:
    with connect(guards.plain.address) as sock:
        hello = read_one(sock)
        sock.sendall(data)
        return [hello, *read_all(sock)]


def with_a_ticket_of_ones_own(guards: Guards, data: bytes) -> list[JsonObject]:
    """What levityd's own processes tell each other by is nothing when a client says it."""
    asked = json.loads(data[5:]) | {"auth": "eyJrIjoicGVlciIsInUiOiJyb290In0=.00", "fd": True}
    with connect(guards.plain.address) as sock:
        sock.sendall(json_frame(json.dumps(asked).encode()))
        return read_all(sock)


def behind_a_wrong_token(guards: Guards, data: bytes) -> list[JsonObject]:
    with connect(guards.plain.address) as sock:
        return prove(sock, os.urandom(32), guards.plain.binding, last=data)


def behind_a_wrong_proof(guards: Guards, data: bytes) -> list[JsonObject]:
    """Bound to another address, as by a man in the middle: the server's own proof comes first."""
    with connect(guards.plain.address) as sock:
        messages = prove(sock, guards.plain.key, b"tcp:127.0.0.1:1", last=data)
        assert set(messages[1]["result"]) == {"proof"}
        return [messages[0], *messages[2:]]


def instead_of_the_proof(guards: Guards, data: bytes) -> list[JsonObject]:
    with connect(guards.plain.address) as sock:
        hello = read_one(sock)
        sock.sendall(request_frame(0, "auth.begin", {"nonce": make_nonce(guards.plain.key).hex()}))
        assert set(read_one(sock)["result"]) == {"proof"}
        sock.sendall(data)
        return [hello, *read_all(sock)]


def behind_a_revoked_token(guards: Guards, data: bytes) -> list[JsonObject]:
    key = guards.plain.add_token("mallory")
    guards.plain.revoke_token("mallory")
    with connect(guards.plain.address) as sock:
        return prove(sock, key, guards.plain.binding, last=data)


def behind_what_is_too_long(guards: Guards, data: bytes) -> list[JsonObject]:
    with connect(guards.plain.address) as sock:
        sock.sendall((UNAUTHENTICATED_FRAME_LIMIT + 1).to_bytes(4, "big") + data)
        return read_all(sock)


def in_tls_where_none_is(guards: Guards, data: bytes) -> list[JsonObject]:
    sock = connect(guards.plain.address)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secure(sock).sendall(data)
    return []


# By a token inside TLS


def in_the_clear_where_tls_is(guards: Guards, data: bytes) -> list[JsonObject]:
    with connect(guards.inside_tls.address) as sock:
        sock.sendall(data)
        assert not (reply := read_bytes(sock)) or reply[0] == 21, reply  # An alert of TLS at most (RFC 8446, 5.1).
        return []


def by_tls_1_2(guards: Guards, data: bytes) -> list[JsonObject]:
    sock = connect(guards.inside_tls.address)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secure(sock, version=ssl.TLSVersion.TLSv1_2).sendall(data)
    return []


def unasked_in_tls(guards: Guards, data: bytes) -> list[JsonObject]:
    with secure(connect(guards.inside_tls.address)) as sock:
        sock.sendall(data)
        return read_all(sock)


def with_a_certificate_that_nobody_wants(guards: Guards, data: bytes) -> list[JsonObject]:
    with secure(connect(guards.inside_tls.address), guards.root) as sock:
        sock.sendall(data)
        return read_all(sock)


def behind_a_wrong_token_in_tls(guards: Guards, data: bytes) -> list[JsonObject]:
    with secure(connect(guards.inside_tls.address)) as sock:
        return prove(sock, os.urandom(32), guards.inside_tls.binding, last=data)


# By a certificate


def by_certificate(name: str, make: Callable[[Guards], Certificate | None], **options: Any) -> Attempt:
    made: dict[Guards, Certificate | None] = {}

    def attempt(guards: Guards, data: bytes) -> list[JsonObject]:
        if guards not in made:
            made[guards] = make(guards)
        sock = connect(guards.mutual.address)
        try:
            tls = secure(sock, made[guards], **options)
        except (ssl.SSLError, ConnectionError):
            return []
        # In TLS 1.3 the client is ready before the server has seen its certificate: only what is read tells.
        with tls:
            try:
                tls.sendall(data)
            except OSError:
                pass
            return read_all(tls)

    attempt.__name__ = name
    return attempt


def revoked(guards: Guards) -> Certificate:
    one = guards.ca.client("root")
    guards.revoke(one)
    return one


def of_another_ca(guards: Guards) -> Certificate:
    (guards.directory / "other").mkdir()
    return make_ca(guards.directory / "other").client("root")


def in_the_clear_where_certificates_are(guards: Guards, data: bytes) -> list[JsonObject]:
    with connect(guards.mutual.address) as sock:
        sock.sendall(data)
        assert not (reply := read_bytes(sock)) or reply[0] == 21, reply
        return []


ATTEMPTS: dict[str, list[Attempt]] = {
    "plain": [
        *(unasked, after_the_greeting, with_a_ticket_of_ones_own, behind_a_wrong_token, behind_a_wrong_proof),
        *(instead_of_the_proof, behind_a_revoked_token, behind_what_is_too_long, in_tls_where_none_is),
    ],
    "inside_tls": [
        *(in_the_clear_where_tls_is, by_tls_1_2, unasked_in_tls, with_a_certificate_that_nobody_wants),
        behind_a_wrong_token_in_tls,
    ],
    "mutual": [
        in_the_clear_where_certificates_are,
        by_certificate("by_none", lambda _guards: None),
        by_certificate("by_a_self_signed_one", lambda guards: self_signed(guards.directory)),
        by_certificate("by_an_expired_one", lambda guards: guards.ca.client("root", expired=True)),
        by_certificate("by_another_ca_s", of_another_ca),
        by_certificate("by_the_server_s_own", lambda guards: guards.server),
        by_certificate("by_a_server_s", lambda guards: guards.ca.client("root", usage="server")),
        by_certificate("by_a_revoked_one", revoked),
        by_certificate("by_tls_1_2_with_a_good_one", lambda guards: guards.root, version=ssl.TLSVersion.TLSv1_2),
    ],
}


@pytest.mark.parametrize(
    ("guarded", "attempt"),
    [(where, attempt) for where, attempts in ATTEMPTS.items() for attempt in attempts],
    indirect=["guarded"],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_an_unknown_client_never_gets_in(guards: Guards, guarded: Guarded, attempt: Attempt) -> None:
    watch = guarded.watch()
    for name in NAMES:
        check_refusal(attempt(guards, request(name, guarded.task_id, guarded.marker)))
    watch.check(len(NAMES), guarded.poke)


@pytest.mark.parametrize("guarded", ATTEMPTS, indirect=True)
def test_a_known_client_gets_in(guarded: Guarded) -> None:
    """Else all the others would prove nothing."""
    with guarded.client() as client:
        assert client.info()["role"] == Role.ADMIN
        assert client.query(guarded.task_id).id == guarded.task_id
