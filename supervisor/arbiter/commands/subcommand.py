"""What `levityd token` and `levityd certs` have in common. Runs in: arbiter. Owns: standard output."""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.security.principal import Role

__all__ = ["Action", "add_role", "tell"]


@dataclass(frozen=True)
class Action:
    """A word after `levityd token` or `levityd certs`; `run` is given the options, the state directory is entered."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], None]


def add_role(parser: argparse.ArgumentParser, name: str, **more: str) -> None:
    """Add an argument that is a role."""
    about = "viewer: sees all tasks; user: has tasks of its own; admin: has all"
    parser.add_argument(name, choices=[str(role) for role in Role], help=about, **more)  # type: ignore[arg-type]


def tell(text: str) -> None:
    """Write to standard output what was asked for, and nothing else goes there; OSError when it does not get there."""
    # Not print(): what Python keeps in a buffer and cannot write, it complains of once more when it ends.
    left = memoryview(f"{text}\n".encode("utf-8", "backslashreplace"))
    while left:
        left = left[os.write(1, left) :]
