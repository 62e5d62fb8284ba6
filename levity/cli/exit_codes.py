"""How a task's end becomes an exit code, and which codes are levity's own. Runs in: client. Owns: nothing."""

from levity.states import State

__all__ = ["LEVITY_FAILED", "as_our_failure", "exit_code_of"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from levity.errors import LevityError
    from levity.task import TaskRecord

# As env(1), timeout(1) and docker-run(1) have it: a code that says that the command's own is not known.
LEVITY_FAILED = 125


def exit_code_of(record: "TaskRecord") -> int:
    """Return the code of a task that is over, 125 where there is none."""
    if record.state is State.INTERNAL_SERVER_ERROR or record.exit_code is None:
        return LEVITY_FAILED
    return record.exit_code


def as_our_failure(error: "LevityError") -> "LevityError":
    """Return the error with 125 in place of 1, for commands that exit with a task's code: that may be 1 itself."""
    if error.exit_status == 1:
        error.exit_status = LEVITY_FAILED
    return error
