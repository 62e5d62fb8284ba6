"""From a wait status to state, code, signal and reason."""

import errno
import os
import signal

import pytest

from levity.states import State
from supervisor.shim.exit_record import signal_name, verdict
from supervisor.shim.spawn import LaunchError, start_failure
from supervisor.spool.start_failure import DIRECTORY, EXEC, FORK, HOST, StartFailure


@pytest.mark.parametrize("signalled", [True, False])
@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("status", [0, 1, 9, 127, 137, 255])
def test_an_exit_is_an_exit(status: int, *, signalled: bool, killed: bool) -> None:
    """Even after SIGKILL was sent: the task was quicker."""
    state, exit_code, name, reason = verdict(os.CLD_EXITED, status, signalled=signalled, killed=killed, grace_s=5.0)
    assert (state, exit_code, name) == (State.FINISHED, status, None)
    assert ("SIGTERM" in reason) == signalled


@pytest.mark.parametrize("code", [os.CLD_KILLED, os.CLD_DUMPED])
@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("number", [n for n in range(1, signal.SIGRTMAX + 1) if n not in (32, 33)])
def test_a_signal_is_a_signal(number: int, code: int, *, killed: bool) -> None:
    state, exit_code, name, reason = verdict(code, number, signalled=killed, killed=killed, grace_s=2.5)
    brutal = killed and number == signal.SIGKILL
    assert state == (State.BRUTALLY_KILLED if brutal else State.FINISHED)
    assert exit_code == 128 + number
    assert name == signal_name(number)
    assert ("2.5 s" in reason) == brutal


def test_names_of_signals() -> None:
    assert signal_name(15) == "SIGTERM"
    assert signal_name(signal.SIGRTMIN) == "SIGRTMIN"
    assert signal_name(signal.SIGRTMIN + 3) == "SIGRTMIN+3"
    assert signal_name(signal.SIGRTMAX) == "SIGRTMAX"


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_why_a_start_failed_goes_through_a_pipe_as_it_is(number: int) -> None:
    for stage in (FORK, HOST, DIRECTORY, EXEC):
        failure = StartFailure(stage, number)
        assert StartFailure.from_text(failure.to_text()) == failure
        assert start_failure(LaunchError(failure)) == failure
    assert start_failure(OSError(number, "")) == StartFailure(HOST, number)


@pytest.mark.parametrize("text", ["", ":", "exec", "exec:", ":2", "exec:x", "exec:-1", "exec:\u0662", "exec:99999"])
def test_another_text_is_no_failure(text: str) -> None:
    assert StartFailure.from_text(text) is None


def test_an_error_without_a_number_is_not_success() -> None:
    assert start_failure(OSError("no number")).errno == errno.EIO
