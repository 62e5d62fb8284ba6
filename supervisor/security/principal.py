"""Users, and whether one may do something with a task. Runs in: arbiter, engine. Owns: nothing. Never: does I/O."""

import re
from dataclasses import dataclass

from supervisor.security.roles import TO_OTHERS_TASKS, TO_OWN_TASKS, Right, Role

__all__ = ["Principal", "is_user_name", "local_user"]

_USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Principal:
    """An authenticated user: `uid`, `gid` and `groups` are those of its process where that is local, else None."""

    user: str
    role: Role
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None

    def may(self, right: Right) -> bool:
        """Whether this user has that right to any task at all."""
        return right in TO_OWN_TASKS[self.role]

    def may_with(self, right: Right, owner: str) -> bool:
        """Whether this user has that right to a task of `owner`."""
        return right in (TO_OWN_TASKS if owner == self.user else TO_OTHERS_TASKS)[self.role]

    @property
    def sees_all(self) -> bool:
        """Whether no task is hidden from this user."""
        return Right.SEE in TO_OTHERS_TASKS[self.role]


def is_user_name(name: str) -> bool:
    """Whether this can be the name of a token, or in a certificate: ASCII, safe as a file name, up to 64 characters."""
    return _USER_NAME.fullmatch(name) is not None


def local_user(account: str, uid: int) -> str:
    """Return which user a local process is: its account's name, `uid:1234` where there is none that may be."""
    return account if is_user_name(account) else f"uid:{uid}"
