"""Becoming another user by a name: in certificates that a careless authority has signed, and of tokens."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from levity.channel_binding import endpoint_binding
from levity.errors import Forbidden
from levity.protocol.messages import request_frame
from levity.states import State
from supervisor.security.roles import Role
from supervisor.security.tokens import TokenStore
from tests.support.attack import check_refusal, connect, enter, read_all, read_one, request, secure
from tests.support.crowd import WireUser
from tests.support.daemon import Daemon
from tests.support.guarded import Guarded, Guards
from tests.support.paths import levityd_command
from tests.support.tasks import client_of, ended, output

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: tasks run as other users")
on_mutual = pytest.mark.parametrize("guarded", ["mutual"], indirect=True)
LONGEST = "x" * 64

UNUSABLE: list[str | list[str]] = [
    *(
        "",
        " ",
        ".",
        "..",
        "-",
        "-v",
        "../root",
        "tokens/root",
        "a/b",
        LONGEST + "x",
        "root ",
        " root",
        "root\n",
        "\troot",
    ),
    *(
        "root\0",
        "root\0.example.com",
        "\0root",
        "r\u043eot",
        "\uff52oot",
        "root\u200b",
        "ROOT\u0301",
        "uid:0",
        "uid:1000",
    ),
    *("root,CN=x", "root/CN=x", "*", "root@host", "\x1b[2Kroot"),
    ["root", "root"],
    ["daemon", "root"],
    ["root", "daemon"],
    ["", "root"],
    [],
]


@on_mutual
@pytest.mark.filterwarnings("ignore:Attribute's length")
@pytest.mark.parametrize("cn", UNUSABLE, ids=ascii)
def test_a_certificate_without_one_usable_name(guards: Guards, guarded: Guarded, cn: str | list[str]) -> None:
    watch = guarded.watch()
    certificate = guards.ca.client(cn)
    with secure(connect(guarded.address), certificate) as sock:
        try:
            sock.sendall(request("task.start", guarded.task_id, guarded.marker))
        except OSError:
            pass
        check_refusal(read_all(sock))
    watch.check(1, guarded.poke)


@on_mutual
@pytest.mark.parametrize("cn", ["Root", "ROOT", "root.", "root-", "0", "daemon", LONGEST])
def test_a_name_that_resembles_another_users_is_a_user_of_its_own(guards: Guards, guarded: Guarded, cn: str) -> None:
    watch = guarded.watch()
    with secure(connect(guarded.address), guards.ca.client(cn)) as sock:
        hello = read_one(sock)["params"]
        assert (hello["user"], hello["role"]) == (cn, "user")
        (found, listed), _took = WireUser(sock).ask(
            [request("task.query", guarded.task_id), request("task.list", guarded.task_id)]
        )
    assert json.loads(found)["error"]["code"] == 1
    assert json.loads(listed)["result"]["tasks"] == []
    watch.check(1, guarded.poke)


@on_mutual
def test_names_elsewhere_in_a_certificate_are_no_user_s(guards: Guards, guarded: Guarded) -> None:
    certificate = guards.ca.client("daemon", names=["root", "127.0.0.1"])
    with secure(connect(guarded.address), certificate) as sock:
        assert read_one(sock)["params"]["user"] == "daemon"


@on_mutual
def test_levityd_s_own_name_takes_more_than_a_certificate(guards: Guards, guarded: Guarded) -> None:
    """Its tasks belong to its own user: a client that only has the name would have them all."""
    own = guarded.daemon_user
    certificate = guards.ca.client(own)
    for role in (Role.USER, Role.VIEWER):
        guarded.set_role(own, role)
        try:
            with secure(connect(guarded.address), certificate) as sock:
                check_refusal(read_all(sock))
        finally:
            guarded.set_role(own, Role.ADMIN)
    with secure(connect(guarded.address), certificate) as sock:
        assert read_one(sock)["params"]["role"] == "admin"


@on_mutual
def test_a_role_that_is_taken_away_is_gone_at_once(guards: Guards, guarded: Guarded) -> None:
    guarded.set_role("chief", Role.ADMIN)
    with secure(connect(guarded.address), guards.ca.client("chief")) as sock:
        assert read_one(sock)["params"]["role"] == "admin"
        chief = WireUser(sock)
        (before,), _took = chief.ask([request("task.query", guarded.task_id)])
        guarded.set_role("chief", None)
        (after,), _took = chief.ask([request("task.query", guarded.task_id)])
    assert ("result" in json.loads(before), "result" in json.loads(after)) == (True, False)


# Whom a task runs as, where levityd is root


@needs_root
@pytest.mark.parametrize("guarded", ["plain"], indirect=True)
@pytest.mark.parametrize("role", [Role.USER, Role.ADMIN])
def test_a_name_without_an_account_runs_nothing(guarded: Guarded, role: Role) -> None:
    key = guarded.add_token("no-such-account", role)
    watch = guarded.watch()
    with enter(connect(guarded.address), key, guarded.binding) as sock:
        (reply,), _took = WireUser(sock).ask([request("task.start", guarded.task_id, guarded.marker)])
    assert json.loads(reply)["error"]["code"] == Forbidden.code
    guarded.revoke_token("no-such-account")
    watch.check(1, guarded.poke)


@needs_root
@pytest.mark.parametrize("guarded", ["plain"], indirect=True)
@pytest.mark.parametrize("wanted", ["root", "nobody", "bin"])
def test_only_an_administrator_chooses_whom_a_task_runs_as(guarded: Guarded, wanted: str) -> None:
    key = guarded.add_token("daemon")
    watch = guarded.watch()
    start = {"id": str(uuid.uuid4()), "argv": ["/bin/sh", "-c", f"id >>{guarded.marker}"], "user": wanted}
    with enter(connect(guarded.address), key, guarded.binding) as sock:
        (reply,), _took = WireUser(sock).ask([request_frame(1, "task.start", start)])
    assert json.loads(reply)["error"]["code"] == Forbidden.code
    guarded.revoke_token("daemon")
    watch.check(1, guarded.poke)
    with guarded.client() as client:
        task_id = client.start(["/usr/bin/id", "-un"], user=wanted)
        assert ended(client, task_id).state is State.FINISHED
        assert output(client, task_id) == (f"{wanted}\n".encode(), b"")


# A host with a second name for root, in a view of the file system in which only this levityd is.


@pytest.fixture(scope="module")
def with_toor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    passwd = tmp_path_factory.mktemp("etc") / "passwd"
    passwd.write_text(Path("/etc/passwd").read_text() + "toor:x:0:0::/root:/bin/sh\n")
    script = 'mount --bind "$0" /etc/passwd && exec "$@"'
    command = ["unshare", "--mount", "/bin/sh", "-c", script, str(passwd), *levityd_command()]
    probe = ["unshare", "--mount", "/bin/sh", "-c", script, str(passwd), "/bin/true"]
    if os.geteuid() != 0 or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs root and mount namespaces")
    daemon = Daemon("127.0.0.1:0", command=command)
    try:
        yield daemon.start()
    finally:
        daemon.end()


def test_root_by_another_name_takes_an_administrator(with_toor: Daemon) -> None:
    with TokenStore(str(with_toor.state_dir)) as store:
        key = store.add("toor", Role.USER).key
    host, _colon, port = str(with_toor.address).rpartition(":")
    with enter(connect(with_toor.address), key, endpoint_binding(host, int(port))) as sock:
        (reply,), _took = WireUser(sock).ask(
            [request_frame(1, "task.start", {"id": str(uuid.uuid4()), "argv": ["/usr/bin/id", "-u"]})]
        )
    assert json.loads(reply)["error"]["code"] == Forbidden.code
    with client_of(with_toor.address) as client:
        task_id = client.start(["/usr/bin/id", "-u"], user="toor")
        ended(client, task_id)
        assert output(client, task_id)[0] == b"0\n"
