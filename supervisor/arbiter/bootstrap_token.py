"""The first token: that of levityd's own user. Runs in: arbiter. Owns: nothing."""

import os

from levity.errors import LevityError
from supervisor.arbiter.startup_error import CONFIGURATION, StartupError
from supervisor.security.tokens import TokenStore

__all__ = ["make_bootstrap_token"]


def make_bootstrap_token() -> None:
    """Make the token, unless it is there, in the working directory, which is the state directory; StartupError.

    A process of its own makes it: the front-end's memory is a copy of the arbiter's, so the arbiter must never have had
    a key in it.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = CONFIGURATION
        try:
            os.write(write_end, _ensure().encode("utf-8", "backslashreplace"))
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        refusal = pipe.read()
    _pid, status = os.waitpid(pid, 0)
    if refusal or status:
        raise StartupError(f"state directory: {refusal or 'its token could not be made'}", CONFIGURATION)


def _ensure() -> str:
    try:
        with TokenStore() as store:
            store.ensure_own()
    except LevityError as error:
        return error.message
    except OSError as error:
        return error.strerror or "the host refused"
    return ""
