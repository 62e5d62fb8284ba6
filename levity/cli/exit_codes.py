"""What `run` and `wait` exit with, and which codes are levity's own. Runs in: client. Owns: nothing.

An error's code is its class's `exit_status`.
"""

from levity.errors import INTERRUPTED
from levity.states import State

__all__ = ["INTERRUPTED", "OWN_FAILURE", "SIGNALLED", "as_own_failure", "exit_code_of"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from levity.errors import LevityError
    from levity.task import TaskRecord

# As env(1), timeout(1) and docker-run(1) have it: levity failed, so the command's own code is not known.
OWN_FAILURE = 125
# What a shell adds to the number of the signal that ended a program.
SIGNALLED = 128


def exit_code_of(record: "TaskRecord") -> int:
    """Return the code of a task that is over, 125 where it has none."""
    if record.state is State.INTERNAL_SERVER_ERROR or record.exit_code is None:
        return OWN_FAILURE
    return record.exit_code


def as_own_failure(error: "LevityError") -> "LevityError":
    """Return the error with 125 in place of 1, for commands that exit with a task's code: that may be 1 itself."""
    if error.exit_status == 1:
        error.exit_status = OWN_FAILURE
    return error
