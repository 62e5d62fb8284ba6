"""The accounts of this host, and the ids with which their tasks run. Runs in: engine. Owns: a cache.

A look-up may ask a directory server and take its time, so each result is kept for a moment: long enough that a burst of
requests costs one look-up, short enough that a change of a user's groups soon counts.
"""

import os
import pwd
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from levity.protocol.text import bytes_to_text
from supervisor.security.principal import local_user
from supervisor.spool.records import RunAs

__all__ = ["Accounts", "of_peer", "resolve", "user_name"]

_AGE_S = 60.0
# An administrator who adds an account does not want to wait, and a directory server that did not answer proves nothing.
_ABSENCE_S = 5.0
_SIZE = 256
_NAME_LIMIT = 256

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Cache(Generic[Key, Value]):
    """The results of `find` for the last keys that were asked for."""

    def __init__(self, find: Callable[[Key], Value | None], clock: Callable[[], float]) -> None:
        self._find = find
        self._clock = clock
        self._found: dict[Key, tuple[float, Value | None]] = {}

    def get(self, key: Key) -> Value | None:
        good_until, value = self._found.get(key, (0.0, None))
        if self._clock() >= good_until:
            value = self._find(key)
            self._found.pop(key, None)
            while len(self._found) >= _SIZE:
                del self._found[next(iter(self._found))]
            self._found[key] = (self._clock() + (_ABSENCE_S if value is None else _AGE_S), value)
        return value


class Accounts:
    """All accounts; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._by_name: _Cache[str, pwd.struct_passwd] = _Cache(_by_name, clock)
        self._by_uid: _Cache[int, pwd.struct_passwd] = _Cache(_by_uid, clock)
        self._groups: _Cache[tuple[str, int], list[int]] = _Cache(_groups, clock)

    def resolve(self, name: str) -> RunAs | None:
        """Return the RunAs of an account, with all its groups; None if there is none."""
        account = self._by_name.get(name) if len(name) <= _NAME_LIMIT else None
        if account is None:
            return None
        return _run_as(account.pw_uid, account.pw_gid, self._groups_of(account), account)

    def of_peer(self, uid: int, gid: int, groups: Sequence[int] | None) -> RunAs:
        """Return the RunAs of the process at the other end of a connection: with its groups, and no more.

        `groups` are None where the kernel does not tell them: then the account's groups are taken.
        """
        account = self._by_uid.get(uid)
        if groups is None:
            groups = self._groups_of(account) if account else []
        return _run_as(uid, gid, list(groups), account)

    def user_name(self, uid: int) -> str:
        """Return the name of the account, `uid:1234` where there is none or it is no name for a user of ours."""
        account = self._by_uid.get(uid)
        name = _text(account.pw_name) if account else ""
        return local_user(name, uid)

    def _groups_of(self, account: pwd.struct_passwd) -> list[int]:
        return list(self._groups.get((account.pw_name, account.pw_gid)) or [])


def _run_as(uid: int, gid: int, groups: list[int], account: pwd.struct_passwd | None) -> RunAs:
    name, home, shell = (account.pw_name, account.pw_dir, account.pw_shell) if account else ("", "", "")
    home = _text(home) if home.startswith("/") else "/"
    return RunAs(uid, gid, groups, _text(name), home, _text(shell) or "/bin/sh")


def _text(of_account: str) -> str:
    return bytes_to_text(os.fsencode(of_account))


def _by_name(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a NUL, or a surrogate that stands for no byte.
        return None


def _by_uid(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _groups(account: tuple[str, int]) -> list[int] | None:
    try:
        return os.getgrouplist(*account)
    except OSError:
        return None  # More than the kernel takes. Without them a task may do less, not more.


_accounts = Accounts()
resolve = _accounts.resolve
of_peer = _accounts.of_peer
user_name = _accounts.user_name
