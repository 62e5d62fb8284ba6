"""A process of another user that runs a piece of Python and reports what came of it. Owns: that process."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.support.paths import ROOT, clean_environment

__all__ = ["GID", "UID", "as_other_user", "attempts"]

# No account has these numbers.
UID, GID = 54321, 54322

# All imports first: another user may not be allowed to read this checkout.
_CODE = """
import errno, json, os, select, socket, sys
sys.path.insert(0, {root!r})
from supervisor.hostos.inotify import Inotify
from supervisor.hostos.identity import become
from supervisor.hostos.kernel import forbid_privileges
import levity.protocol.messages

def attempt(action):
    try:
        return action()
    except OSError as error:
        return errno.errorcode[error.errno]

become({uid}, {gid}, {groups})
"""


def as_other_user(
    code: str, *, uid: int = UID, gid: int = GID, groups: Sequence[int] = (), pass_fds: Sequence[int] = ()
) -> Any:
    """Run `code`, which leaves JSON in `result`, in a process that has become another user by `become`; return that.

    `attempt(action)` in there returns what the action does, or the name of its errno.
    """
    head = _CODE.format(root=str(ROOT), uid=uid, gid=gid, groups=list(groups))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{head}\n{code}\nprint(json.dumps(result))"],
        pass_fds=pass_fds,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout)


def attempts(actions: dict[str, str], **options: Any) -> dict[str, Any]:
    """Return what each expression comes to, or the errno by name, when another user evaluates it."""
    lines = [f"result[{name!r}] = attempt(lambda: {action})" for name, action in actions.items()]
    found = as_other_user("\n".join(["result = {}", *lines]), **options)
    assert isinstance(found, dict)
    return found
