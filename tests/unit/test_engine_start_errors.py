"""Why a command did not start: from the exit status of a shim to an error that a client can act on."""

import errno
from typing import Any

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
from supervisor.engine.start_errors import host_error, start_error

EXEC_FLAG, CHDIR_FLAG = 0x80, 0x40
SPEC: dict[str, Any] = {"argv": ["prog"], "cwd": "/dir"}


@pytest.mark.parametrize(
    ("status", "error", "exit_status"),
    [
        (EXEC_FLAG | errno.ENOENT, CommandNotFound, 127),
        (EXEC_FLAG | errno.ENOTDIR, CommandNotFound, 127),
        (EXEC_FLAG | errno.EACCES, NotExecutable, 126),
        (EXEC_FLAG | errno.ENOEXEC, NotExecutable, 126),
        (EXEC_FLAG | errno.E2BIG, NotExecutable, 126),
        (EXEC_FLAG | errno.ETXTBSY, NotExecutable, 126),
        (EXEC_FLAG | errno.EISDIR, NotExecutable, 126),
        (EXEC_FLAG | errno.EAGAIN, HostError, 1),
        (CHDIR_FLAG | errno.ENOENT, BadDirectory, 1),
        (CHDIR_FLAG | errno.EACCES, BadDirectory, 1),
        (errno.ENOSPC, NoSpace, 1),
        (errno.EMFILE, HostError, 1),
        (errno.EAGAIN, HostError, 1),
        (0, InternalError, 1),
        (-9, InternalError, 1),
    ],
)
def test_a_status_becomes_an_error(status: int, error: type[LevityError], exit_status: int) -> None:
    made = start_error(status, SPEC)
    assert type(made) is error
    assert made.exit_status == exit_status


def test_every_status_has_words_in_one_line() -> None:
    for status in range(-64, 256):
        message = start_error(status, SPEC).message
        assert message
        assert "\n" not in message


def test_the_message_names_what_was_asked_for() -> None:
    assert "'prog'" in start_error(EXEC_FLAG | errno.ENOENT, SPEC).message
    assert "'/dir'" in start_error(CHDIR_FLAG | errno.ENOENT, SPEC).message
    assert "interpreter" in start_error(EXEC_FLAG | errno.ENOENT, {"argv": ["/x/y"], "cwd": None}).message


@pytest.mark.parametrize(
    ("run_as", "user"),
    [({"name": "alice", "uid": 7}, "as user 'alice'"), ({"name": "", "uid": 7}, "as user 'uid:7'"), (None, "")],
)
def test_the_message_says_whose_permissions_they_are(run_as: dict[str, Any] | None, user: str) -> None:
    statuses = (EXEC_FLAG | errno.EACCES, EXEC_FLAG | errno.EAGAIN, CHDIR_FLAG | errno.EACCES, errno.EPERM)
    for status in statuses:
        message = start_error(status, SPEC | {"run_as": run_as}).message
        assert user in message
        assert user or "as user" not in message


def test_a_quota_is_as_full_as_a_disk() -> None:
    assert isinstance(host_error(errno.EDQUOT, "it"), NoSpace)
