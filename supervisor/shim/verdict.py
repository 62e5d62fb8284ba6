"""How a task ended, by its wait status and what levity did to it. Runs in: shim. Never: does I/O."""

import os
import signal

from levity.states import State

__all__ = ["signal_name", "verdict"]


def signal_name(number: int) -> str:
    """Return `SIGTERM` for 15; a real-time signal without a name of its own is counted from SIGRTMIN."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def verdict(
    code: int, status: int, *, signalled: bool, killed: bool, grace_s: float
) -> tuple[State, int, str | None, str]:
    """Return state, exit_code (0-255; 128+N for signal N), signal and reason of a task that is over.

    `code` and `status` are si_code and si_status of waitid(2); `signalled`: levity sent SIGTERM; `killed`: levity sent
    SIGKILL.
    """
    if code == os.CLD_EXITED:
        reason = f"exited with code {status}" + (" after SIGTERM" if signalled else "")
        return State.FINISHED, status, None, reason
    name = signal_name(status)
    brutal = killed and status == signal.SIGKILL
    if brutal:
        reason = f"outlived the grace period of {grace_s:g} s, ended by SIGKILL"
    else:
        reason = f"ended by {name}" + (" and dumped core" if code == os.CLD_DUMPED else "")
    state = State.BRUTALLY_KILLED if brutal else State.FINISHED
    return state, 128 + status, name, reason
