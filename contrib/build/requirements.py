"""Print what pyproject.toml asks for, one requirement a line: `requirements.py [EXTRA]...`. Runs in: make.

So that the checkout's environment can hold the dependencies without a copy of levity itself: what runs there is always
the code as it is on disk.
"""

import sys
import tomllib
from pathlib import Path

__all__ = ["requirements"]

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def requirements(extras: list[str]) -> list[str]:
    """Return the base dependencies and those of `extras`; an extra that names another one of levity's includes it."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    own = f"{project['name']}["
    found: list[str] = list(project["dependencies"])
    waiting = list(extras)
    while waiting:
        for line in project["optional-dependencies"][waiting.pop()]:
            if line.startswith(own):
                waiting += line[len(own) :].rstrip("]").split(",")
            else:
                found.append(line)
    return found


if __name__ == "__main__":
    print(*requirements(sys.argv[1:]), sep="\n")
