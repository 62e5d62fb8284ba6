"""The `levity` command as a process: closed, full and broken standard streams, Ctrl-C. Runs in: pytest."""

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from levity.cli import info
from levity.cli.main import main
from levity.cli.output import STDOUT as OUR_STDOUT
from levity.cli.output import ReaderGone, wait_readable, write
from levity.protocol.frames import STDOUT
from tests.support.deadline import eventually
from tests.support.fake_server import FakeServer, Peer, answering, record
from tests.support.paths import clean_environment, levity_command

ID = record()["id"]
LIMIT_S = 30


def shell(server: FakeServer, line: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash with `levity` in "$@"."""
    command = ["bash", "-c", f"set -o pipefail; {line}", "bash", *levity_command(), "-a", server.address]
    return subprocess.run(command, capture_output=True, env=clean_environment(), timeout=LIMIT_S, check=False)


def endless(peer: Peer) -> None:
    peer.hello()
    peer.request()
    peer.begin()
    while True:
        peer.output(STDOUT, b"line\n" * 10_000)


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with FakeServer(endless) as server:
        done = shell(server, f'"$@" logs {ID} | head -n 1')
    assert (done.stdout, done.stderr) == (b"line\n", b"")
    assert done.returncode == 141


@pytest.mark.parametrize("command", [f"query {ID}", "help", "list", f"start --json -- {ID}"])
def test_a_full_disk_is_told(command: str) -> None:
    answer = record() | {"tasks": [], "next": None}
    with FakeServer(answering(answer)) as server:
        done = shell(server, f'"$@" {command} >/dev/full')
    assert done.returncode == 1
    id_too = f"; the id of the task, which runs, is {ID}" if command.startswith("start") else ""
    assert done.stderr.decode() == f"levity: cannot write to standard output: No space left on device{id_too}\n"


def test_full_standard_error_is_not_fatal() -> None:
    with FakeServer(answering(record())) as server:
        assert shell(server, '"$@" query 2>/dev/full').returncode == 2


def test_closed_standard_output_is_told_and_nothing_goes_to_the_connection() -> None:
    with FakeServer(answering(record())) as server:
        done = shell(server, f'"$@" query {ID} >&-')
        assert done.returncode == 1
        assert done.stderr == b"levity: cannot write to standard output: Bad file descriptor\n"
        assert shell(server, f'"$@" query {ID} <&- 2>&-').stdout == b"Running\n"
        assert shell(server, f'"$@" query {ID} <&- >&- 2>&-').returncode == 1
    # Output to the connection by mistake would be no request, and fail the server's script.
    assert server.methods() == ["task.query"] * 3


def test_ctrl_c_ends_it_quietly() -> None:
    def silent(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.wait_gone()

    with FakeServer(silent) as server:
        command = [*levity_command(), "-a", server.address, "query", ID]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
        ) as client:
            try:
                eventually(lambda: server.requests, "the request")
                client.send_signal(signal.SIGINT)
                out, err = client.communicate(timeout=LIMIT_S)
            finally:
                client.kill()
    assert (client.returncode, out, err) == (130, b"", b"")


def test_ctrl_c_in_the_middle_of_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "run", interrupted)
    assert main(["info"]) == 130


def test_a_fault_of_levity_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(info, "run", broken)
    if sys.flags.dev_mode:
        with pytest.raises(ZeroDivisionError):
            main(["info"])
        return
    assert main(["info"]) == 1
    err = capfdbinary.readouterr().err
    assert err.startswith(b"levity: a fault in levity itself: ZeroDivisionError: a\\nb")
    assert err.count(b"\n") == 1


def test_python_m_levity(tmp_path: Path) -> None:
    with FakeServer(answering(record()), path=str(tmp_path / "s")) as server:
        environment = clean_environment() | {"LEVITY_ADDR": server.address}
        command = [sys.executable, "-m", "levity", "query", ID]
        done = subprocess.run(command, capture_output=True, env=environment, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Running\n", b"")


def test_a_locale_without_the_characters() -> None:
    page = {"tasks": [record(argv=["né", "\udcff"])], "next": None}
    with FakeServer(answering(page)) as server:
        done = shell(server, 'LC_ALL=POSIX "$@" list')
    assert done.returncode == 0
    assert b"\n" in done.stdout


def test_a_pipe_that_does_not_block() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # More than a pipe holds (64 KiB): it is full again and again.
    data = bytes(range(256)) * 2000
    with open(reader, "rb") as source, ThreadPoolExecutor(1) as pool:
        received = pool.submit(source.read)
        write(writer, data)
        os.close(writer)
        assert received.result(LIMIT_S) == data


def test_a_terminal() -> None:
    leader, follower = pty.openpty()
    with FakeServer(answering(record())) as server:
        command = [*levity_command(), "-a", server.address, "query", ID]
        done = subprocess.run(
            command, stdout=follower, stderr=follower, env=clean_environment(), timeout=LIMIT_S, check=False
        )
    os.close(follower)
    assert done.returncode == 0
    assert os.read(leader, 100) == b"Running\r\n"
    os.close(leader)


def test_a_pipe_that_breaks() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(ReaderGone):
        write(writer, b"x")
    os.close(writer)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(os.pipe, id="a pipe"),
        pytest.param(lambda: [end.detach() for end in reversed(socket.socketpair())], id="a socket"),
    ],
)
def test_a_reader_that_leaves_is_noticed_while_nothing_comes(make: Callable[[], Sequence[int]]) -> None:
    """A pipe without a reader has an error, a socket whose other end is closed is hung up (poll(2))."""
    reader, writer = make()
    silent, other = os.pipe()
    kept = os.dup(OUR_STDOUT)
    os.dup2(writer, OUR_STDOUT)
    try:
        wait_readable(silent, 0.001)
        os.close(reader)
        with pytest.raises(ReaderGone):
            wait_readable(silent, LIMIT_S)
    finally:
        os.dup2(kept, OUR_STDOUT)
        for fd in (kept, writer, silent, other):
            os.close(fd)
