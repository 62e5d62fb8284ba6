"""Write bin/levity or bin/levityd: `launchers.py PYTHON FILE`. Runs in: make. Owns: those two files.

They run the checkout's code with the checkout's interpreter from wherever they are called. An installed levity has its
commands from pip instead.
"""

import os
import shlex
import sys
from pathlib import Path

__all__ = ["first_lines", "script", "write_launcher"]

ROOT = Path(__file__).resolve().parents[2]
# execve(2): the kernel reads 255 bytes of the first line, and splits it at the first blank.
SHEBANG_LIMIT = 255
# name: interpreter flags and module. The client needs the standard library only, and not looking for more (-S) is a
# quarter of its start-up. Both ignore the user's PYTHON* variables (-I): they are meant for the user's own programs.
COMMANDS = {"levity": ("-IS", "levity.cli.main"), "levityd": ("-I", "supervisor.arbiter.main")}


def first_lines(python: str, flags: str) -> str:
    """Return the first lines of a Python program that make it run with `python`, wherever that is."""
    shebang = f"#!{python} {flags}"
    if " " not in python and "\t" not in python and len(os.fsencode(shebang)) <= SHEBANG_LIMIT:
        return f"{shebang}\n"
    # /bin/sh runs the second line and never sees the third; to Python both are one unused string.
    return f"#!/bin/sh\n'''exec' {shlex.quote(python)} {flags} \"$0\" \"$@\"\n' '''\n"


def script(python: str, flags: str, module: str) -> str:
    """Return the text of a launcher that calls `module`'s main()."""
    return (
        f"{first_lines(python, flags)}"
        "import sys\n\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"from {module} import main\n\n"
        "sys.exit(main())\n"
    )


def write_launcher(python: str, path: Path) -> None:
    """Make or replace the launcher of this name; one that runs meanwhile is not disturbed."""
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(script(python, *COMMANDS[path.name]), encoding="utf-8", errors="surrogateescape")
    unfinished.chmod(0o755)
    unfinished.replace(path)


if __name__ == "__main__":
    write_launcher(sys.argv[1], Path(sys.argv[2]))
