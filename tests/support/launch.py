"""Run levityd where it is expected to refuse, or under odd conditions. Owns: nothing."""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.paths import ROOT, clean_environment, levityd_command

__all__ = [
    "CONFIGURATION",
    "ELSEWHERE",
    "FAILED",
    "TOKEN",
    "USAGE",
    "Run",
    "failed",
    "fine",
    "refused",
    "run_levityd",
    "under_shell",
    "without",
]

# levityd's exit codes (docs/protocol.md names them).
FAILED, USAGE, CONFIGURATION = 1, 2, 78
TOKEN = re.compile(r"levity_[0-9a-f]{64}\n")
# No host has it (RFC 5737): levityd sets everything up and then cannot listen.
ELSEWHERE = "192.0.2.1:4321"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def refused(
    state_dir: str | Path,
    *arguments: str,
    command: Sequence[str] | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float = 20,
) -> tuple[int, str]:
    """Run a levityd that must not come up; return its exit code and the one line that it says on stderr."""
    done = run_levityd("--state-dir", str(state_dir), *arguments, command=command, env=env, timeout_s=timeout_s)
    lines = done.stderr.splitlines()
    assert done.stdout == ""
    assert lines, f"levityd exited with {done.returncode} and said nothing"
    assert lines[-1].startswith("levityd: "), lines
    return done.returncode, lines[-1]


def under_shell(prelude: str, command: Sequence[str] | None = None) -> list[str]:
    """Return levityd's command led by a piece of shell: `under_shell("umask 0777;")`."""
    return ["/bin/sh", "-c", f'{prelude} exec "$0" "$@"', *(command or levityd_command())]


def run_levityd(
    *arguments: str,
    command: Sequence[str] | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float = 20,
) -> subprocess.CompletedProcess[str]:
    """Run a levityd that ends by itself, and return what it said."""
    done = subprocess.run(
        [*(command or levityd_command()), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**clean_environment(), **(env or {})},
        cwd="/",
        timeout=timeout_s,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def without(module: str) -> list[str]:
    """Return a levityd command to which this third-party module is not there."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules[{module!r}] = None; "
        "from supervisor.arbiter.main import main; sys.exit(main())"
    )
    return [sys.executable, "-I", "-c", code]


def fine(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def failed(done: "subprocess.CompletedProcess[str]", status: int) -> str:
    """Return the one line that says why; nothing else is said."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("levityd: ")
    assert done.stderr.count("\n") == 1
    return done.stderr
