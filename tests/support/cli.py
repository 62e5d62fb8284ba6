"""Run the real client against a levityd of the tests. Owns: nothing."""

import subprocess
from collections.abc import Sequence

from tests.support.daemon import Daemon, token_file_of
from tests.support.paths import clean_environment, levity_command

__all__ = ["levity", "spawn_levity"]


def _argv(daemon: "Daemon | str | None", command: Sequence[str], arguments: Sequence[str | bytes]) -> list[str | bytes]:
    address = _address(daemon)
    return [*command, *([] if address is None else ["-a", address]), *arguments]


def _address(daemon: "Daemon | str | None") -> str | None:
    return daemon.address if isinstance(daemon, Daemon) else daemon


def _environment(daemon: "Daemon | str | None", env: dict[str, str] | None) -> dict[str, str]:
    token_file = token_file_of(_address(daemon))
    known = {} if token_file is None else {"LEVITY_TOKEN_FILE": str(token_file)}
    return {**clean_environment(), **known, **(env or {})}


def levity(
    daemon: "Daemon | str | None",
    *arguments: str | bytes,
    env: dict[str, str] | None = None,
    timeout_s: float = 30,
    command: Sequence[str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `levity -a ADDRESS ARGUMENT...` to its end: `levity(daemon, "start", "--", "ls")`.

    `daemon` may be an address, or None for no -a at all. stdout and stderr are bytes; the exit code is not checked.
    """
    return subprocess.run(
        _argv(daemon, command or levity_command(), arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=_environment(daemon, env),
        timeout=timeout_s,
        check=False,
    )


def spawn_levity(
    daemon: "Daemon | str | None", *arguments: str | bytes, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start the client and return at once; stdout and stderr are pipes. To be used with `with`."""
    return subprocess.Popen(
        _argv(daemon, levity_command(), arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(daemon, env),
    )
