"""Who asks, and what they may do. Runs in: arbiter, engine. Owns: nothing. Never: does I/O."""

import re
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Principal", "Right", "Role", "is_user_name", "local_user"]

_USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


class Role(StrEnum):
    """What somebody may do with tasks: see all of them; have some of one's own; everything."""

    VIEWER = "viewer"
    USER = "user"
    ADMIN = "admin"


class Right(StrEnum):
    """What an operation asks for: to look at tasks, to start new ones, to act on those there are."""

    SEE = "see"
    START = "start"
    ACT = "act"


# What each role may do with tasks of one's own, and with those of others.
_OWN = {
    Role.VIEWER: frozenset({Right.SEE}),
    Role.USER: frozenset(Right),
    Role.ADMIN: frozenset(Right),
}
_OTHERS = {
    Role.VIEWER: frozenset({Right.SEE}),
    Role.USER: frozenset[Right](),
    Role.ADMIN: frozenset(Right),
}


@dataclass(frozen=True)
class Principal:
    """A user, as one who is known to be that: `uid`, `gid` and `groups` are those of a local process, else None."""

    user: str
    role: Role
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None

    def may(self, right: Right) -> bool:
        """Whether there are tasks with which this user may do that."""
        return right in _OWN[self.role]

    def may_with(self, right: Right, owner: str) -> bool:
        """Whether this user may do that with a task of `owner`."""
        return right in (_OWN if owner == self.user else _OTHERS)[self.role]

    @property
    def sees_all(self) -> bool:
        """Whether no task is hidden from this user."""
        return Right.SEE in _OTHERS[self.role]


def is_user_name(name: str) -> bool:
    """Whether this can be the name of a token, or in a certificate: ASCII, safe as a file name, up to 64 characters."""
    return _USER_NAME.fullmatch(name) is not None


def local_user(account: str, uid: int) -> str:
    """Return which user a local process is: its account's name, `uid:1234` where there is none that may be."""
    return account if is_user_name(account) else f"uid:{uid}"
