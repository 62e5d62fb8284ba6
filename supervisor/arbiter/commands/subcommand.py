"""The parts that `levityd token` and `levityd certs` share. Runs in: arbiter. Owns: standard output."""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.security.roles import Role

__all__ = ["Action", "add_role", "print_line"]


@dataclass(frozen=True)
class Action:
    """An action of `levityd token` or `levityd certs`; `run(options)` is called in the state directory."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], None]


def add_role(parser: argparse.ArgumentParser, name: str, **more: str) -> None:
    """Add an argument that is a role."""
    about = "viewer: sees all tasks; user: has tasks of its own; admin: has all"
    parser.add_argument(name, choices=[str(role) for role in Role], help=about, **more)  # type: ignore[arg-type]


def print_line(text: str) -> None:
    """Write a line of what was asked for to standard output; OSError when it cannot be written.

    Not print(): Python would keep the line in a buffer and complain once more at its end if it cannot write that.
    """
    left = memoryview(f"{text}\n".encode("utf-8", "backslashreplace"))
    while left:
        left = left[os.write(1, left) :]
