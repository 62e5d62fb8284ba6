"""Why a task did not run: which step failed on the way to execve(2), and the kernel's errno. Used by: shim, engine."""

__all__ = ["DIRECTORY", "EXEC", "FORK", "HOST", "StartFailure"]

# The steps of which more than the errno is told: forking the shim; what the shim itself does before the task has a
# process; entering the task's directory; executing the command. supervisor/shim/pre_exec.py names the others.
FORK, HOST, DIRECTORY, EXEC = "fork", "host", "directory", "exec"


class StartFailure:
    """`stage` is the step's name, of this levity or of a newer one; `errno` is what the kernel said."""

    __slots__ = ("errno", "stage")

    def __init__(self, stage: str, errno: int) -> None:
        self.stage = stage
        self.errno = errno

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StartFailure) and (self.stage, self.errno) == (other.stage, other.errno)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<StartFailure {self.stage} {self.errno}>"

    def to_text(self) -> str:
        """Return it as it goes through a pipe: "exec:2"."""
        return f"{self.stage}:{self.errno}"

    @classmethod
    def from_text(cls, text: str) -> "StartFailure | None":
        """Return what `to_text` wrote; None for any other text."""
        stage, _colon, number = text.partition(":")
        return cls(stage, int(number)) if stage and number.isascii() and number.isdigit() and len(number) < 5 else None
