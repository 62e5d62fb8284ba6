"""Where the checkout and its commands are, and the environment in which tests run them. Owns: nothing."""

import os
import sys
from pathlib import Path

__all__ = ["ROOT", "clean_environment", "levity_command", "levityd_command"]

ROOT = Path(__file__).resolve().parents[2]


def levity_command() -> list[str]:
    """Return how to run this checkout's client."""
    return _command("levity", "levity.cli.main", ["-I", "-S"])


def levityd_command() -> list[str]:
    """Return how to run this checkout's daemon."""
    return _command("levityd", "supervisor.arbiter.main", ["-I"])


def _command(name: str, module: str, flags: list[str]) -> list[str]:
    launcher = ROOT / "bin" / name
    if launcher.exists() and not sys.flags.dev_mode:
        return [str(launcher)]
    # Without make, or with the development mode of this interpreter handed on: a launcher's first line has none.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {module} import main; sys.exit(main())"
    mode = ["-X", "dev"] if sys.flags.dev_mode else []
    return [sys.executable, *flags, *mode, "-c", code]


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would change levity's ways."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("LEVITY_", "PYTEST_"))}
