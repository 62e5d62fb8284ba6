"""As which user a task runs: only an administrator's task runs as root, or as another user."""

import os

import pytest

from levity.errors import Forbidden, InvalidRequest
from supervisor.engine.access import run_as as identity
from supervisor.security.principal import Principal
from supervisor.security.roles import Role
from supervisor.spool.records import RunAs

ROOT, ALICE, TOOR = "root", "alice", "toor"
FRONT_END = 999
ACCOUNTS = {ROOT: 0, ALICE: 1000, "bob": 1001, TOOR: 0, "levity": FRONT_END}


def account(uid: int, name: str) -> RunAs:
    return RunAs(uid, uid, [uid], name, "/of/account", "/bin/sh")


def peer(uid: int, gid: int, groups: tuple[int, ...]) -> RunAs:
    return RunAs(uid, gid, list(groups), "", "/of/peer", "/bin/sh")


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str) -> RunAs | None:
        return account(ACCOUNTS[name], name) if name in ACCOUNTS else None

    def of_peer(uid: int, gid: int, groups: tuple[int, ...]) -> RunAs:
        return peer(uid, gid, groups)

    monkeypatch.setattr(identity, "resolve", resolve)
    monkeypatch.setattr(identity, "of_peer", of_peer)
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def run_as(who: Principal, wanted: str | None, own_user: str) -> RunAs | None:
    return identity.run_as(who, wanted, own_user, FRONT_END)


def remote(user: str, role: Role = Role.USER) -> Principal:
    return Principal(user, role)


def local(user: str, uid: int, role: Role = Role.USER) -> Principal:
    return Principal(user, role, uid, uid, (uid, 27))


def test_a_local_user_runs_as_the_process_that_asks() -> None:
    expected = peer(1000, 1000, (1000, 27))
    assert run_as(local(ALICE, 1000), None, ROOT) == expected
    assert run_as(local(ALICE, 1000), ALICE, ROOT) == expected


def test_root_runs_as_root_and_as_anybody() -> None:
    root = local(ROOT, 0, Role.ADMIN)
    assert run_as(root, None, ROOT) is None
    assert run_as(root, ROOT, ROOT) is None
    assert run_as(root, "bob", ROOT) == account(1001, "bob")
    with pytest.raises(InvalidRequest, match="no user 'nemo'"):
        run_as(root, "nemo", ROOT)


@pytest.mark.parametrize("wanted", [ROOT, "bob", TOOR, "nemo"])
@pytest.mark.parametrize("who", [local(ALICE, 1000), remote(ALICE), remote(ROOT)])
def test_only_an_administrators_task_runs_as_another_user(who: Principal, wanted: str) -> None:
    if who.user == wanted:
        return
    with pytest.raises(Forbidden, match="only an admin"):
        run_as(who, wanted, ROOT)


def test_a_remote_client_runs_as_the_account_of_its_name() -> None:
    assert run_as(remote(ALICE), None, ROOT) == account(1000, ALICE)
    with pytest.raises(Forbidden, match=r"no user 'ci'.*--user"):
        run_as(remote("ci"), None, ROOT)


def test_a_name_that_is_roots_is_not_enough() -> None:
    with pytest.raises(Forbidden, match="administrator"):
        run_as(remote(TOOR), None, ROOT)
    with pytest.raises(Forbidden, match="administrator"):
        run_as(local("uid:0", 0), None, ROOT)
    assert run_as(remote(TOOR, Role.ADMIN), None, ROOT) == account(0, TOOR)


def test_an_administrator_is_not_root_without_saying_so() -> None:
    admin = remote(ALICE, Role.ADMIN)
    assert run_as(admin, None, ROOT) == account(1000, ALICE)
    assert run_as(admin, ROOT, ROOT) is None


def test_where_levityd_is_not_root_all_run_as_levityd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own = local(ALICE, 1000, Role.ADMIN)
    for who, wanted in ((own, None), (own, ALICE), (remote("ci"), None), (remote("ci"), "ci")):
        assert run_as(who, wanted, ALICE) is None
    for who in (own, remote("ci"), remote("boss", Role.ADMIN)):
        with pytest.raises(Forbidden, match="only a levityd that root runs"):
            run_as(who, "bob", ALICE)


def test_nothing_runs_as_the_front_end() -> None:
    for who, wanted in (
        (local(ROOT, 0, Role.ADMIN), "levity"),
        (remote("levity"), None),
        (local("levity", FRONT_END), None),
    ):
        with pytest.raises(Forbidden, match="front-end"):
            run_as(who, wanted, ROOT)
