"""The way a task goes to its end: what to do to it and when. Runs in: shim. Owns: nothing. Never: reads a clock itself.

Decisions only: each method takes the monotonic time and returns what the shim shall do now. `deadline` is when to call
`tick` next.
"""

from enum import Enum

__all__ = ["DRAIN_S", "Action", "Course"]

# How long output may still come from a pipe that somebody outside the task's tree holds open (containerd: as long).
DRAIN_S = 10.0
# SIGKILL works at once, but a tree that forks while it is killed takes more than one round, and a process in an
# uninterruptible sleep may take for ever: the rounds grow rarer.
_FIRST_ROUND_S = 0.01
_LAST_ROUND_S = 1.0


class Action(Enum):
    """What the shim shall do to its task."""

    TERM_GROUP = "SIGTERM, then SIGCONT, to the process group of the leader"
    TERM_TREE = "SIGTERM, then SIGCONT, to everything that is left"
    KILL_TREE = "SIGKILL to everything that is left"
    SEAL = "read what is there of the output, and no more"


class Course:
    """One task's course."""

    def __init__(self, drain_s: float = DRAIN_S) -> None:
        self._drain_s = drain_s
        self.deadline: float | None = None
        self.signalled = False
        self.killed = False
        self.killed_leader = False
        self.sealed = False
        self._leader_gone = False
        self._tree_gone = False
        self._round_s = _FIRST_ROUND_S

    def __repr__(self) -> str:
        return f"<Course{' signalled' * self.signalled}{' killed' * self.killed} until {self.deadline}>"

    def signal(self, now: float, grace_s: float) -> list[Action]:
        """Somebody asked the task to quit. Asked again, the earlier of both deadlines holds."""
        if self._leader_gone or self.killed:
            return []
        self.signalled = True
        self._be_called_by(now + grace_s)
        return [Action.TERM_GROUP]

    def leader_exited(self, now: float, grace_s: float) -> list[Action]:
        """The leader is gone and processes of its tree are left: they get the same grace."""
        self._leader_gone = True
        if self.killed:
            return [Action.KILL_TREE]
        self._be_called_by(now + grace_s)
        return [Action.TERM_TREE]

    def tree_gone(self, now: float) -> None:
        """No process is left; only a stranger can hold a pipe open, and the time for that begins, or begins anew."""
        self._leader_gone = self._tree_gone = True
        self.deadline = now + self._drain_s

    def tick(self, now: float, *, blocked: bool = False) -> list[Action]:
        """Act on the deadline, if it has passed. `blocked`: it is the disk that is waited for, not a stranger."""
        if self.deadline is None or now < self.deadline:
            return []
        if self._tree_gone:
            self.deadline = now + self._drain_s if blocked else None
            return [] if blocked else [Action.SEAL]
        self.killed = True
        self.killed_leader |= not self._leader_gone
        self.deadline = now + self._round_s
        self._round_s = min(self._round_s * 2, _LAST_ROUND_S)
        return [Action.KILL_TREE]

    def cut(self) -> None:
        """A stranger held a pipe open for too long: what may still come of it is not waited for."""
        self.sealed = True

    def _be_called_by(self, deadline: float) -> None:
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)
