"""What the front-end answers to `task.logs`, from a spool without a task."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from levity.errors import AuthenticationError
from levity.protocol.frames import JSON
from levity.protocol.log_decoder import LogDecoder
from levity.protocol.messages import Request, parse_answer
from supervisor.frontend.client_socket import ClientSocket
from supervisor.frontend.operations import logs as logs_module
from supervisor.frontend.operations.log_params import parse_log_params
from supervisor.frontend.operations.logs import Logs
from supervisor.hostos.inotify import Inotify
from supervisor.spool.index import RECORD_SIZE
from supervisor.spool.layout import index_name, task_path
from tests.support.spool import finish, write

ID = "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42"
LIMIT_S = 30


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path(task_path(ID))
    path.mkdir(parents=True)
    return path


def ask(**params: Any) -> tuple[bytes, list[str], dict[str, Any]]:
    """Return what was sent of stdout, which notifications were, and the reply."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(LIMIT_S)
        directory_fd = os.open(task_path(ID), os.O_RDONLY)
        wanted = parse_log_params(params, now_ns=0)
        reply = Logs(Inotify()).send(ClientSocket(ours), ID, directory_fd, wanted, lambda: None)
        ours.shutdown(socket.SHUT_WR)
        with theirs.makefile("rb") as stream:
            frames = LogDecoder().feed(stream.read())
    output, told = b"", []
    for frame in frames:
        if frame.kind != JSON:
            output += frame.body
            continue
        message = parse_answer(frame.body)
        assert isinstance(message, Request)
        told.append(message.method)
    return output, told, reply


def test_up_to_a_moment_what_has_no_record_is_there_if_nothing_is_recorded_later(spool: Path) -> None:
    write(spool, [(1, b"%d\n" % number) for number in range(4)])
    os.truncate(spool / index_name(0), 3 * RECORD_SIZE)
    finish(spool)
    assert ask(tail=2, until_ns=1001) == (b"0\n1\n", ["log.start"], {"stdout": 4, "stderr": 0, "over": True})
    for until_ns in (None, 1002, 5000):
        told = ["log.start", "log.unordered"]
        assert ask(tail=2, until_ns=until_ns) == (b"2\n3\n", told, {"stdout": 8, "stderr": 0, "over": True})


def test_a_reader_behind_the_end_is_told_though_it_asks_up_to_a_moment(spool: Path) -> None:
    """So that a client sees that something is gone that it had."""
    write(spool, [(1, b"abc")])
    finish(spool)
    for until_ns in (None, 1000, 5000):
        reply = ask(until_ns=until_ns, **{"from": {"stdout": 9, "stderr": 0}})[2]
        assert reply["stdout"] == 3
    # Of what is later than the moment nothing is known to be missing.
    assert ask(until_ns=999, **{"from": {"stdout": 9, "stderr": 0}})[2]["stdout"] == 9


def test_a_client_that_may_not_read_any_more_is_cut_off_in_the_middle(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a log that is there already, and however long it takes to send that."""
    monkeypatch.setattr(logs_module, "_CHECK_S", 0.0)
    write(spool, [(1, b"%d\n" % number) for number in range(4)])
    finish(spool)

    def refuse() -> None:
        raise AuthenticationError("any more")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        directory_fd = os.open(task_path(ID), os.O_RDONLY)
        wanted = parse_log_params({}, now_ns=0)
        with pytest.raises(AuthenticationError, match="any more"):
            Logs(Inotify()).send(ClientSocket(ours), ID, directory_fd, wanted, refuse)
