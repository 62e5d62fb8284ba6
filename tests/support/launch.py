"""Run levityd where it is expected to refuse, or under odd conditions. Owns: nothing."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.paths import ROOT, clean_environment, levityd_command

__all__ = ["refused", "run_levityd", "under_shell", "without"]


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
    """Return a levityd command that has not got this module of somebody else's."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules[{module!r}] = None; "
        "from supervisor.arbiter.main import main; sys.exit(main())"
    )
    return [sys.executable, "-I", "-c", code]
