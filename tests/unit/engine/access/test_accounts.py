"""Accounts of the host, as tasks and connections need them."""

import os
import pwd
from typing import Any

import pytest

from supervisor.engine.access import accounts
from supervisor.engine.access.accounts import Accounts
from supervisor.spool.records import RunAs

FREE_UID = 54321


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Passwd:
    """Accounts of a host that has these; each look-up is counted."""

    def __init__(self) -> None:
        self.accounts: list[pwd.struct_passwd] = []
        self.groups: dict[str, list[int]] = {}
        self.asked = 0

    def add(self, name: str, uid: int, home: str = "/home/x", shell: str = "/bin/zsh") -> None:
        self.accounts.append(pwd.struct_passwd((name, "x", uid, uid + 1, "", home, shell)))

    def getpwnam(self, name: str) -> pwd.struct_passwd:
        return self._only([account for account in self.accounts if account.pw_name == name])

    def getpwuid(self, uid: int) -> pwd.struct_passwd:
        return self._only([account for account in self.accounts if account.pw_uid == uid])

    def _only(self, found: list[pwd.struct_passwd]) -> pwd.struct_passwd:
        self.asked += 1
        if not found:
            raise KeyError
        return found[0]

    def getgrouplist(self, name: str, gid: int) -> list[int]:
        self.asked += 1
        return self.groups.get(name, [gid])


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Passwd:
    one = Passwd()
    monkeypatch.setattr(pwd, "getpwnam", one.getpwnam)
    monkeypatch.setattr(pwd, "getpwuid", one.getpwuid)
    monkeypatch.setattr(os, "getgrouplist", one.getgrouplist)
    return one


def run_as(**changes: Any) -> RunAs:
    usual: dict[str, Any] = {"uid": 7, "gid": 8, "groups": [8], "name": "alice", "home": "/home/x", "shell": "/bin/zsh"}
    return RunAs(**usual | changes)


# On the real host


def test_root_is_an_account_of_every_host() -> None:
    found = accounts.resolve("root")
    assert found is not None
    assert (found.uid, found.gid, found.name) == (0, 0, "root")
    assert found.home == pwd.getpwuid(0).pw_dir
    assert 0 in found.groups
    assert accounts.user_name(0) == "root"


@pytest.mark.parametrize("name", ["", "no such account", "0", "a\0b", "root\0", "\udcff", "x" * 100_000])
def test_a_name_without_an_account_has_no_user_to_run_as(name: str) -> None:
    assert accounts.resolve(name) is None


def test_a_peer_without_account_has_its_own_ids_and_nothing_more() -> None:
    with pytest.raises(KeyError):
        pwd.getpwuid(FREE_UID)
    assert accounts.user_name(FREE_UID) == f"uid:{FREE_UID}"
    for groups in ([6, 7], [], None):
        nobody = run_as(uid=FREE_UID, gid=5, groups=groups or [], name="", home="/", shell="/bin/sh")
        assert accounts.of_peer(FREE_UID, 5, groups) == nobody


def test_a_surrogate_that_stands_for_no_byte_is_in_no_name() -> None:
    assert accounts.resolve("\ud800") is None


# On one that is made up


def test_an_account_runs_with_all_its_groups(host: Passwd) -> None:
    host.add("alice", 7)
    host.groups["alice"] = [8, 100, 27]
    assert Accounts().resolve("alice") == run_as(groups=[8, 100, 27])


def test_a_peer_keeps_the_groups_that_its_process_has(host: Passwd) -> None:
    host.add("alice", 7)
    host.groups["alice"] = [8, 100, 27]
    assert Accounts().of_peer(7, 9, (1,)) == run_as(gid=9, groups=[1])
    assert Accounts().of_peer(7, 9, ()) == run_as(gid=9, groups=[])
    assert Accounts().of_peer(7, 9, None) == run_as(gid=9, groups=[8, 100, 27])


@pytest.mark.parametrize(("home", "shell"), [("", ""), ("relative", ""), (".", "")])
def test_missing_fields_of_an_account_are_filled_in(host: Passwd, home: str, shell: str) -> None:
    host.add("alice", 7, home, shell)
    assert Accounts().resolve("alice") == run_as(home="/", shell="/bin/sh")


@pytest.mark.parametrize("name", ["uid:0", "uid:7", "a\nb", "a\x1b[2J", "a\udcff", ""])
def test_a_name_that_could_be_taken_for_another_s_is_none(host: Passwd, name: str) -> None:
    host.add(name, 7)
    assert Accounts().user_name(7) == "uid:7"


def test_a_found_account_is_kept_for_a_minute_and_a_missing_one_for_seconds(host: Passwd) -> None:
    clock = Clock()
    known = Accounts(clock)
    assert known.resolve("alice") is None
    host.add("alice", 7)
    assert known.resolve("alice") is None
    clock.now += 5
    assert known.resolve("alice") == run_as()
    asked = host.asked
    host.groups["alice"] = [8, 9]
    clock.now += 59
    assert known.resolve("alice") == run_as()
    assert host.asked == asked
    clock.now += 1
    assert known.resolve("alice") == run_as(groups=[8, 9])


def test_a_kept_account_cannot_be_changed(host: Passwd) -> None:
    host.add("alice", 7)
    known = Accounts()
    found = known.resolve("alice")
    assert found is not None
    found.groups.append(0)
    assert known.resolve("alice") == run_as()


def test_accounts_are_not_kept_without_bound(host: Passwd) -> None:
    known = Accounts(Clock())
    host.add("alice", 7)
    for uid in range(1000):
        known.user_name(uid)
    assert len(known._by_uid._found) == 256
    asked = host.asked
    known.user_name(999)
    assert host.asked == asked
    known.user_name(7)
    assert host.asked == asked + 1


def test_more_groups_than_there_may_be_are_none(host: Passwd, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[int]:
        raise OSError

    host.add("alice", 7)
    monkeypatch.setattr(os, "getgrouplist", refuse)
    assert Accounts().resolve("alice") == run_as(groups=[])
