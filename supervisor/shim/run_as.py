"""The user that a task runs as. Runs in: the task's own process, before execve(2). Owns: nothing.

The engine has looked up everything and written it into the spec. Here no account is looked up, and a missing value is
an error: a task that shall run as another user never runs as levityd's instead.
"""

import errno
import os
from collections.abc import Iterable

from levity.errors import InvalidRequest
from levity.protocol.text import text_to_bytes
from supervisor.hostos.identity import become

__all__ = ["User"]

_PATH = b"/usr/local/bin:/usr/bin:/bin"
_ROOT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# (uid_t) -1: to setresuid(2) it means "as it is".
_NO_ID = 2**32 - 1
# How many setgroups(2) takes.
_GROUPS_LIMIT = 65536


class User:
    """The `run_as` of a spec; OSError EINVAL for one that is not whole."""

    def __init__(self, run_as: object) -> None:
        if not isinstance(run_as, dict):
            raise OSError(errno.EINVAL, "run_as")
        groups = run_as.get("groups")
        if not isinstance(groups, list) or len(groups) > _GROUPS_LIMIT:
            raise OSError(errno.EINVAL, "groups")
        self.uid, self.gid = _id(run_as.get("uid")), _id(run_as.get("gid"))
        self.groups = [_id(group) for group in groups]
        self.home = _text(run_as.get("home"))
        if not self.home.startswith(b"/"):
            raise OSError(errno.EINVAL, "home")
        self._name, self._shell = _text(run_as.get("name")), _text(run_as.get("shell"))

    def environment(self, levityds: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Return a clean environment: of levityd's, which may hold secrets, only the language."""
        found = {b"HOME": self.home, b"SHELL": self._shell, b"PATH": _PATH if self.uid else _ROOT_PATH}
        if self._name:
            found[b"USER"] = found[b"LOGNAME"] = self._name
        if b"LANG" in levityds:
            found[b"LANG"] = levityds[b"LANG"]
        return found

    def become(self, descriptors: Iterable[int]) -> None:
        """Become this user, which also gets these pipes: so it can open them again, as /dev/stdout. OSError if not."""
        for fd in descriptors:
            os.fchown(fd, self.uid, self.gid)
        become(self.uid, self.gid, self.groups)


def _id(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _NO_ID:
        raise OSError(errno.EINVAL, "an id")
    return value


def _text(value: object) -> bytes:
    try:
        if isinstance(value, str) and "\0" not in value:
            return text_to_bytes(value)
    except InvalidRequest:
        pass
    raise OSError(errno.EINVAL, "a text")
