"""What those get who are let in, but may not do everything, or not any more: every operation, one after the other."""

import json
import socket
from contextlib import ExitStack

import pytest

from levity.errors import Forbidden, UnknownMethod, UnknownTask
from levity.protocol.messages import request_frame
from supervisor.security.roles import Role
from tests.support.attack import (
    INNER,
    OPERATIONS,
    OTHER_NAMES,
    Audit,
    connect,
    enter,
    read_all,
    read_one,
    request,
    secure,
)
from tests.support.certificates import Certificate
from tests.support.deadline import eventually
from tests.support.guarded import Guarded, Guards

# No account of any host has this name.
NAME = "nobody-at-all"
CHANGING = ("task.start", "task.signal", "task.stdin")
# All that is about a task.
ABOUT_A_TASK = ("task.query", "task.signal", "task.logs", "task.stdin", "task.wait")


def let_in(guarded: Guarded, key: bytes) -> socket.socket:
    sock = connect(guarded.address)
    return enter(sock if guarded.certificate is None else secure(sock), key, guarded.binding)


def shown(guarded: Guarded, certificate: Certificate) -> socket.socket:
    """Return a connection whose client is known by a certificate."""
    sock = secure(connect(guarded.address), certificate)
    assert read_one(sock)["method"] == "hello"
    return sock


@pytest.mark.parametrize("guarded", ["plain", "inside_tls"], indirect=True)
def test_no_name_means_anything_but_those_of_clients(guarded: Guarded) -> None:
    watch = guarded.watch()
    with let_in(guarded, guarded.key) as sock:
        for name in (*INNER, *OTHER_NAMES):
            sock.sendall(request(name, guarded.task_id, guarded.marker))
            reply = read_one(sock)
            assert reply["error"]["code"] == UnknownMethod.code, (name, reply)
        sock.sendall(request_frame(7, "server.info", {}))
        assert read_one(sock)["id"] == 7
    watch.check(0, guarded.poke)


@pytest.mark.parametrize("guarded", ["plain", "inside_tls"], indirect=True)
def test_a_viewer_changes_nothing(guarded: Guarded) -> None:
    watch = guarded.watch()
    with let_in(guarded, guarded.add_token("a-viewer", Role.VIEWER)) as sock:
        for name in CHANGING:
            sock.sendall(request(name, guarded.task_id, guarded.marker))
            assert read_one(sock)["error"]["code"] == Forbidden.code
        for name in {*OPERATIONS} - {*CHANGING}:
            sock.sendall(request(name, guarded.task_id, guarded.marker))
            while "id" not in (reply := read_one(sock) if name != "task.logs" else _skip_output(sock)):
                pass
            assert "result" in reply, (name, reply)
    guarded.revoke_token("a-viewer")
    watch.check(len(CHANGING), guarded.poke)
    denied = [line for line in watch.audit.lines() if line["decision"] == "denied"]
    assert [line["op"] for line in denied] == list(CHANGING)
    assert {(line["user"], line["role"]) for line in denied} == {("a-viewer", "viewer")}


def _skip_output(sock: socket.socket) -> dict[str, object]:
    """Return the next reply; output before it is not looked at."""
    while True:
        head = _exactly(sock, 5)
        body = _exactly(sock, int.from_bytes(head[:4], "big") - 1)
        if head[4] == 0:
            found = json.loads(body)
            assert isinstance(found, dict)
            return found


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        assert more
        data += more
    return data


@pytest.mark.parametrize("guarded", ["plain", "inside_tls"], indirect=True)
def test_another_user_has_no_such_task(guarded: Guarded) -> None:
    watch = guarded.watch()
    with let_in(guarded, guarded.add_token(NAME)) as sock:
        for name in ABOUT_A_TASK:
            sock.sendall(request(name, guarded.task_id, guarded.marker))
            assert read_one(sock)["error"]["code"] == UnknownTask.code, name
        sock.sendall(request("task.list", guarded.task_id))
        assert read_one(sock)["result"] == {"tasks": [], "next": None}
        sock.sendall(request("server.info", guarded.task_id))
        info = read_one(sock)["result"]
        assert (info["live"], info["user"]) == (0, NAME)
        assert not {"pid", "state_dir"} & info.keys()
    guarded.revoke_token(NAME)
    watch.check(len(ABOUT_A_TASK), guarded.poke)


def check_cut_off(guarded: Guarded, sockets: dict[str, socket.socket]) -> None:
    """See that every operation ends its connection without a word, and is in the audit."""
    watch = guarded.watch()
    for name, sock in sockets.items():
        sock.sendall(request(name, guarded.task_id, guarded.marker))
        assert read_all(sock) == [], name
    watch.check(len(sockets), guarded.poke)
    denied = [line for line in watch.audit.lines() if line["decision"] == "denied"]
    assert {line["user"] for line in denied} == {"fired"}
    assert all(line["peer"].startswith("127.0.0.1:") for line in denied)


@pytest.mark.parametrize("guarded", ["plain", "inside_tls"], indirect=True)
def test_a_revoked_token_cuts_off_its_connected_clients(guarded: Guarded) -> None:
    key = guarded.add_token("fired", Role.ADMIN)
    with ExitStack() as stack:
        sockets = {name: stack.enter_context(let_in(guarded, key)) for name in OPERATIONS}
        guarded.revoke_token("fired")
        check_cut_off(guarded, sockets)


@pytest.mark.parametrize("guarded", ["mutual"], indirect=True)
def test_a_revoked_certificate_cuts_off_its_connected_clients(guards: Guards, guarded: Guarded) -> None:
    guarded.set_role("fired", Role.ADMIN)
    fired, other = guards.ca.client("fired"), guards.ca.client("other")
    with ExitStack() as stack:
        sockets = {name: stack.enter_context(shown(guarded, fired)) for name in OPERATIONS}
        guards.revoke(fired, other)
        check_cut_off(guarded, sockets)


@pytest.mark.parametrize("guarded", ["plain"], indirect=True)
def test_a_client_that_follows_a_log_is_cut_off_too(guarded: Guarded) -> None:
    """It asks for nothing more, so it is levityd that has to look."""
    key = guarded.add_token("follower", Role.VIEWER)
    with guarded.client() as client, let_in(guarded, key) as sock:
        task_id = client.start(["/bin/sh", "-c", "while echo x; do sleep 0.1; done"], user=client.info()["user"])
        sock.sendall(request_frame(1, "task.logs", {"id": task_id, "follow": True, "heartbeat_s": 0.1}))
        assert sock.recv(1)
        watch = Audit(guarded.daemon)
        guarded.revoke_token("follower")
        eventually(lambda: _is_cut_off(sock), "the end of the connection")
        assert [line["user"] for line in watch.lines() if line["decision"] == "denied"] == ["follower"]
        client.signal(task_id, 0)


def _is_cut_off(sock: socket.socket) -> bool:
    while data := sock.recv(65536):
        assert data
    return True


@pytest.mark.parametrize("guarded", ["plain"], indirect=True)
@pytest.mark.parametrize("nonce", [None, "", "zz", "00", 5, "0" * 66, ["a"], "\u0430" * 64], ids=repr)
def test_a_proof_that_is_none_is_a_refusal_like_any_other(guarded: Guarded, nonce: object) -> None:
    watch = guarded.watch()
    with connect(guarded.address) as sock:
        read_one(sock)
        sock.sendall(request_frame(0, "auth.begin", {} if nonce is None else {"nonce": nonce}))
        assert [set(message) for message in read_all(sock)] == [{"jsonrpc", "id", "error"}]
    watch.check(1, guarded.poke)


@pytest.mark.parametrize("guarded", ["plain"], indirect=True)
def test_nothing_of_a_role_is_left_with_a_token_of_the_same_name(guarded: Guarded) -> None:
    with let_in(guarded, guarded.add_token("again", Role.ADMIN)) as sock:
        guarded.revoke_token("again")
        guarded.add_token("again", Role.ADMIN)
        sock.sendall(request("task.query", guarded.task_id))
        assert read_all(sock) == []
    guarded.revoke_token("again")
