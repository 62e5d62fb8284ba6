"""Become the user that a task runs as. Runs in: the task's own process, before execve(2). Owns: nothing.

The engine has decided and looked up everything (supervisor/engine/access/run_as.py), and written it into the spec.
Here no account is looked up, and a missing value is an error: a task that shall run as another user never runs as
levityd's instead.
"""

import os
from collections.abc import Iterable

from levity.protocol.text import text_to_bytes
from supervisor.hostos.identity import become
from supervisor.spool.records import RunAs

__all__ = ["User"]

_PATH = b"/usr/local/bin:/usr/bin:/bin"
_ROOT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class User:
    """The account in a spec, as the kernel takes it."""

    def __init__(self, run_as: RunAs) -> None:
        self.uid, self.gid, self.groups = run_as.uid, run_as.gid, run_as.groups
        self.home, self._name, self._shell = (text_to_bytes(text) for text in (run_as.home, run_as.name, run_as.shell))

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
