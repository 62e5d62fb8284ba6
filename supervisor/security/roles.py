"""Roles, and the rights of each. Runs in: arbiter, engine. Owns: nothing. Never: does I/O.

Each operation names the right that it needs, and the engine checks it (supervisor/engine/operations/dispatch.py); for
whose task, it asks supervisor/security/principal.py.
"""

from enum import StrEnum

__all__ = ["TO_OTHERS_TASKS", "TO_OWN_TASKS", "Right", "Role"]


class Role(StrEnum):
    """A viewer may see all tasks, a user may do everything with its own, an admin everything with all."""

    VIEWER = "viewer"
    USER = "user"
    ADMIN = "admin"


class Right(StrEnum):
    """What an operation needs: to look at tasks, to start tasks, to act on existing ones."""

    SEE = "see"
    START = "start"
    ACT = "act"


# The rights of each role to its user's own tasks, and to the tasks of others.
TO_OWN_TASKS = {
    Role.VIEWER: frozenset({Right.SEE}),
    Role.USER: frozenset(Right),
    Role.ADMIN: frozenset(Right),
}
TO_OTHERS_TASKS = {
    Role.VIEWER: frozenset({Right.SEE}),
    Role.USER: frozenset[Right](),
    Role.ADMIN: frozenset(Right),
}
