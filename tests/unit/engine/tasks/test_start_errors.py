"""Why a command did not start: from a failed step and its errno to an error that a client can act on."""

import errno

import pytest

from levity.errors import (
    BadDirectory,
    CommandNotFound,
    HostError,
    InternalError,
    LevityError,
    NoSpace,
    NotExecutable,
)
from supervisor.engine.tasks.start_errors import start_error
from supervisor.spool.start_failure import DIRECTORY, EXEC, FORK, HOST, StartFailure
from tests.support.records import spec

SPEC = spec(argv=["prog"], cwd="/dir")


@pytest.mark.parametrize(
    ("failure", "error", "exit_status"),
    [
        (StartFailure(EXEC, errno.ENOENT), CommandNotFound, 127),
        (StartFailure(EXEC, errno.ENOTDIR), CommandNotFound, 127),
        (StartFailure(EXEC, errno.EACCES), NotExecutable, 126),
        (StartFailure(EXEC, errno.ENOEXEC), NotExecutable, 126),
        (StartFailure(EXEC, errno.E2BIG), NotExecutable, 126),
        (StartFailure(EXEC, errno.ETXTBSY), NotExecutable, 126),
        (StartFailure(EXEC, errno.EISDIR), NotExecutable, 126),
        (StartFailure(EXEC, errno.EAGAIN), HostError, 1),
        (StartFailure(DIRECTORY, errno.ENOENT), BadDirectory, 1),
        (StartFailure(DIRECTORY, errno.EACCES), BadDirectory, 1),
        (StartFailure(HOST, errno.ENOSPC), NoSpace, 1),
        (StartFailure(HOST, errno.EMFILE), HostError, 1),
        (StartFailure(HOST, errno.EAGAIN), HostError, 1),
        (StartFailure("a step of a newer levity", errno.EPERM), HostError, 1),
        (None, InternalError, 1),
    ],
)
def test_a_failure_becomes_an_error(failure: StartFailure | None, error: type[LevityError], exit_status: int) -> None:
    made = start_error(failure, SPEC)
    assert type(made) is error
    assert made.exit_status == exit_status


def test_every_failure_has_words_in_one_line() -> None:
    for stage in (FORK, HOST, DIRECTORY, EXEC):
        for number in range(1, 256):
            message = start_error(StartFailure(stage, number), SPEC).message
            assert message
            assert "\n" not in message


def test_the_message_names_what_was_asked_for() -> None:
    assert "'prog'" in start_error(StartFailure(EXEC, errno.ENOENT), SPEC).message
    assert "'/dir'" in start_error(StartFailure(DIRECTORY, errno.ENOENT), SPEC).message
    assert "interpreter" in start_error(StartFailure(EXEC, errno.ENOENT), spec(argv=["/x/y"])).message


@pytest.mark.parametrize(
    ("name", "user"),
    [("alice", "as user 'alice'"), ("", "as user 'uid:7'"), (None, "")],
)
def test_the_message_says_whose_permissions_they_are(name: str | None, user: str) -> None:
    run_as = None if name is None else {"uid": 7, "gid": 7, "groups": [], "name": name, "home": "/", "shell": "/bin/sh"}
    asked = spec(argv=["prog"], cwd="/dir", run_as=run_as)
    failures = (
        StartFailure(EXEC, errno.EACCES),
        StartFailure(EXEC, errno.EAGAIN),
        StartFailure(DIRECTORY, errno.EACCES),
        StartFailure(HOST, errno.EPERM),
    )
    for failure in failures:
        message = start_error(failure, asked).message
        assert user in message
        assert user or "as user" not in message


def test_a_quota_is_as_full_as_a_disk_and_called_what_it_is() -> None:
    error = start_error(StartFailure(HOST, errno.EDQUOT), SPEC)
    assert isinstance(error, NoSpace)
    assert "disk quota exceeded" in error.message
