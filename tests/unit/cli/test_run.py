"""`levity run` against a scripted levityd. Runs in: pytest."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from levity import Client
from levity.cli import run as run_command
from levity.cli.main import main
from levity.cli.options import parse
from levity.errors import BadDirectory, CommandNotFound, NotExecutable, UnknownTask
from levity.protocol.frames import STDERR, STDOUT
from tests.support.deadline import eventually
from tests.support.fake_clock import FakeClock
from tests.support.fake_server import FakeServer, Hangup, Peer, Script, answering, record
from tests.support.fake_task import FakeTask
from tests.support.paths import clean_environment, levity_command

Captured = pytest.CaptureFixture[bytes]
LIMIT_S = 30
LOG = [(STDOUT, b"one\n"), (STDERR, b"\xff\0"), (STDOUT, b"two")]
# Nothing on standard error, where the client's messages go, too: their order is not known.
QUIET = [(STDOUT, b"one\ntwo")]
GOES_ON = "task {id} goes on: `levity logs -f {id}` follows it, `levity wait {id}` waits for its end\n"


def run(server: FakeServer | str, *words: str) -> int:
    return main(["-a", server if isinstance(server, str) else server.address, *words])


@contextmanager
def spawned(server: FakeServer, *words: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """Run the client as a process."""
    command = [*levity_command(), "-a", server.address, *words]
    with subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
    ) as client:
        try:
            yield client
        finally:
            client.kill()


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        pytest.param({"exit_code": 0}, 0, "", id="it succeeded"),
        pytest.param({"exit_code": 1}, 1, "", id="it failed"),
        pytest.param({"exit_code": 143, "signal": "SIGTERM"}, 143, "", id="it ended by a signal"),
        pytest.param({"state": "BrutallyKilled", "exit_code": 137, "signal": "SIGKILL"}, 137, "", id="it was killed"),
        pytest.param(
            {"state": "InternalServerError", "exit_code": None, "reason": "monitor lost"},
            125,
            "monitor lost",
            id="levity failed",
        ),
    ],
)
def test_run_copies_the_output_and_exits_with_the_tasks_code(
    end: dict[str, Any], code: int, said: str, capfdbinary: Captured
) -> None:
    fake = FakeTask(LOG, **end)
    with FakeServer(fake) as server:
        assert (
            run(server, "run", "-d", "/srv", "-D", "A=1", "--merged", "--log-cap", "none", "--", "make", "-i") == code
        )
    out, err = capfdbinary.readouterr()
    assert out == b"one\ntwo"
    assert err == b"\xff\0" + (f"levity: task {fake.id}: {said}\n".encode() if said else b"")
    start = server.requests[0].params
    assert (start["argv"], start["cwd"], start["env"]) == (["make", "-i"], "/srv", {"A": "1"})
    assert (start["merged"], start["log_cap"], "stdin" in start) == (True, 0, False)
    assert set(server.methods()) == {"task.start", "task.logs", "task.wait", "task.query"}


def test_run_goes_on_over_broken_connections(capfdbinary: Captured) -> None:
    with FakeServer(FakeTask(LOG, breaks=[0, 50, 150, 170], exit_code=4)) as server:
        assert run(server, "run", "make") == 4
    assert capfdbinary.readouterr() == (b"one\ntwo", b"\xff\0")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(CommandNotFound("no command 'lss'"), 127, id="no such command"),
        pytest.param(NotExecutable("'/etc' is not executable"), 126, id="not executable"),
        pytest.param(BadDirectory("no directory '/x'"), 125, id="no such directory"),
    ],
)
def test_a_run_that_starts_nothing(error: Exception, code: int, capfdbinary: Captured) -> None:
    with FakeServer(answering(error)) as server:  # type: ignore[arg-type]
        assert run(server, "run", "lss") == code
    assert capfdbinary.readouterr() == (b"", f"levity: {error}\n".encode())


def test_run_without_a_levityd(capfdbinary: Captured) -> None:
    with FakeServer() as server:
        pass
    assert run(server, "run", "ls") == 255
    err = capfdbinary.readouterr().err
    assert err.count(b"\n") == 1
    assert b"if the task" not in err


def after_start(*scripts: Callable[[Peer], None]) -> Script:
    """Return a script that starts a task, and does these things at the request for its log."""

    def script(peer: Peer) -> None:
        peer.hello()
        while True:
            request = peer.request()
            if request.method == "task.logs":
                for act in scripts:
                    act(peer)
                return
            peer.reply(request, record(id=request.params["id"]))

    return script


def started_id(server: FakeServer) -> str:
    task_id: str = server.requests[0].params["id"]
    return task_id


def test_a_connection_lost_for_good_names_the_task(capfdbinary: Captured) -> None:
    with FakeServer(after_start(Peer.begin, lambda peer: peer.server.stop_listening())) as server:
        assert main(["-a", server.address, "-t", "2", "run", "ls"]) == 255
    err = capfdbinary.readouterr().err.decode()
    assert err.startswith("levity: ")
    assert err.endswith(f"; {GOES_ON.format(id=started_id(server))}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("last", ["task.start", "task.logs"])
def test_a_levityd_that_dies_between_two_connections_is_waited_for(last: str, capfdbinary: Captured) -> None:
    """Between the start and the request for the log, and between the log's end and the result."""
    fake = FakeTask(LOG, exit_code=4)

    def dies(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        assert request.method == last
        peer.server.stop_listening()
        getattr(fake, last.replace(".", "_"))(peer, request)

    scripts: list[Script] = [dies, fake] if last == "task.start" else [fake, dies, fake]
    with FakeServer(*scripts) as server, Client(server.address) as client:
        client.clock = clock = FakeClock(at=2, act=server.listen)
        assert run_command.run(parse("run", run_command.OPTIONS, ["ls"]), client) == 4
    assert len(clock.pauses) == 2
    assert capfdbinary.readouterr() == (b"one\ntwo", b"\xff\0")


def test_a_start_without_an_answer_names_the_task(capfdbinary: Captured) -> None:
    def silent(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.wait_gone()

    with FakeServer(silent) as server:
        assert main(["-a", server.address, "-t", "2", "run", "ls"]) == 255
    expected = f"; if the task was started already, its id is {started_id(server)}\n"
    assert capfdbinary.readouterr().err.decode().endswith(expected)


def test_a_log_that_is_not_whole_is_levitys_failure(capfdbinary: Captured) -> None:
    def short(peer: Peer) -> None:
        peer.begin()
        peer.reply(peer.server.requests[-1], {"stdout": 1, "stderr": 0})

    with FakeServer(after_start(short)) as server:
        assert run(server, "run", "ls") == 125
    err = capfdbinary.readouterr().err.decode()
    assert err == f"levity: the log is incomplete: 0 of 1 bytes of stdout came; {GOES_ON.format(id=started_id(server))}"


@pytest.mark.parametrize("size", [0, 5, 1_000_000])
def test_run_with_a_file_as_input(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "in").write_bytes(data)
    fake = FakeTask(LOG, ends_on="input")
    with FakeServer(fake) as server:
        assert run(server, "run", "--stdin", str(tmp_path / "in"), "--", "cat") == 0
    assert fake.input == data
    assert server.requests[0].params["stdin"] is True


def test_run_with_a_file_that_is_not_there(tmp_path: Path, capfdbinary: Captured) -> None:
    with FakeServer(FakeTask()) as server:
        assert run(server, "run", "--stdin", str(tmp_path / "none"), "cat") == 125
        assert run(server, "start", "--stdin", str(tmp_path / "none"), "cat") == 1
    assert server.requests == []
    assert capfdbinary.readouterr().err.count(b"/none': No such file or directory\n") == 2


def test_run_with_input_that_cannot_be_read(capfdbinary: Captured) -> None:
    fake = FakeTask(ends_on="signal")
    with FakeServer(fake) as server:
        # The kernel refuses to read the first page of an address space.
        assert run(server, "run", "--stdin", "/proc/self/mem", "cat") == 125
        fake.over.set()
    expected = f"levity: cannot read the input: Input/output error; {GOES_ON.format(id=fake.id)}"
    assert capfdbinary.readouterr().err.decode() == expected.replace("\n", "; its input stays open\n")


def test_a_directory_is_no_input(capfdbinary: Captured) -> None:
    with FakeServer(FakeTask()) as server:
        assert run(server, "run", "--stdin", "/", "cat") == 125
    assert server.requests == []
    assert b"cannot read '/': Is a directory" in capfdbinary.readouterr().err


def test_interactive_input_is_passed_on_as_it_comes() -> None:
    fake = FakeTask(LOG, ends_on="input", exit_code=5)
    with FakeServer(fake) as server, spawned(server, "run", "-i", "cat", stdin=subprocess.PIPE) as client:
        assert client.stdin
        for line in (b"one\n", b"two\n"):
            client.stdin.write(line)
            client.stdin.flush()
            eventually(lambda line=line: fake.input.endswith(line), "the line")  # type: ignore[misc]
        out, _ = client.communicate(timeout=LIMIT_S)
    assert (client.returncode, out, fake.input) == (5, b"one\ntwo", b"one\ntwo\n")


@pytest.mark.parametrize(
    "fake",
    [
        pytest.param(FakeTask(LOG), id="it reads nothing"),
        pytest.param(FakeTask(LOG, reads=2, ends_on="closed"), id="it closes its input"),
    ],
)
def test_a_task_that_does_not_read_its_input_blocks_nothing(fake: FakeTask) -> None:
    with FakeServer(fake) as server, spawned(server, "run", "-i", "true", stdin=subprocess.PIPE) as client:
        assert client.stdin
        client.stdin.write(b"xxx")
        client.stdin.flush()
        # The pipe stays open.
        assert client.wait(LIMIT_S) == 0


def test_the_first_ctrl_c_ends_the_task() -> None:
    fake = FakeTask(QUIET, ends_on="signal", exit_code=143, signal="SIGTERM")
    with FakeServer(fake) as server, spawned(server, "run", "sleep", "60") as client:
        eventually(lambda: "task.logs" in server.methods(), "the log")
        client.send_signal(signal.SIGINT)
        out, err = client.communicate(timeout=LIMIT_S)
    assert (client.returncode, out) == (143, b"one\ntwo")
    assert err == b"levity: the task is asked to end; press Ctrl-C again to leave it alone and go\n"
    assert server.methods().count("task.signal") == 1


@pytest.mark.parametrize("options", [pytest.param([], id="without input"), pytest.param(["-i"], id="with input")])
def test_the_second_ctrl_c_leaves_the_task_alone(options: Sequence[str]) -> None:
    fake = FakeTask(QUIET, ends_on="never")
    with FakeServer(fake) as server:
        with spawned(server, "run", *options, "sleep", "60", stdin=subprocess.PIPE) as client:
            eventually(lambda: "task.logs" in server.methods(), "the log")
            client.send_signal(signal.SIGINT)
            eventually(lambda: "task.signal" in server.methods(), "the signal")
            client.send_signal(signal.SIGINT)
            assert client.wait(LIMIT_S) == 130
            assert client.stderr
            lines = client.stderr.read().splitlines(keepends=True)
        fake.over.set()
    told = f"levity: {GOES_ON.format(id=fake.id)}".rstrip("\n")
    assert lines[-1].decode() == told + ("; its input stays open\n" if options else "\n")
    assert not fake.input_ended.is_set(), "the task's input is not at its end"


def test_a_task_that_has_all_its_input_is_not_said_to_wait_for_more(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"all of it")
    fake = FakeTask(ends_on="never")
    is_fed = threading.Event()

    def script(peer: Peer) -> None:
        try:
            fake(peer)
        except Hangup:
            # The client closes the connection for the input first, when all of the input is stored.
            is_fed.set()
            raise

    with FakeServer(script) as server:
        with spawned(server, "run", "--stdin", str(tmp_path / "in"), "cat") as client:
            assert is_fed.wait(LIMIT_S)
            client.send_signal(signal.SIGTERM)
            _out, err = client.communicate(timeout=LIMIT_S)
        fake.over.set()
    assert (client.returncode, err.decode()) == (143, f"levity: {GOES_ON.format(id=fake.id)}")


def test_a_log_that_fails_says_that_the_input_stays_open() -> None:
    def short(peer: Peer) -> None:
        peer.begin()
        peer.reply(peer.server.requests[-1], {"stdout": 1, "stderr": 0})

    with FakeServer(after_start(short)) as server, spawned(server, "run", "-i", "x", stdin=subprocess.PIPE) as client:
        assert client.wait(LIMIT_S) == 125
        assert client.stderr
        assert client.stderr.read().endswith(b"; its input stays open\n")


def test_ctrl_c_while_it_starts_is_kept_for_it_and_a_second_one_names_the_task() -> None:
    def silent(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.wait_gone()

    with FakeServer(silent) as server, spawned(server, "run", "sleep", "60") as client:
        eventually(lambda: server.requests, "the start")
        client.send_signal(signal.SIGINT)
        assert client.stderr
        assert b"asked to end once it has started" in client.stderr.readline()
        client.send_signal(signal.SIGINT)
        out, err = client.communicate(timeout=LIMIT_S)
    expected = f"levity: if the task was started already, its id is {started_id(server)}\n"
    assert (client.returncode, out, err.decode()) == (130, b"", expected)


def test_ctrl_c_that_came_too_early_ends_the_task_once_it_has_started() -> None:
    fake = FakeTask(QUIET, ends_on="signal", exit_code=143)
    may_answer = threading.Event()

    def late(peer: Peer) -> None:
        if peer.number == 0:
            may_answer.wait(LIMIT_S)
        fake(peer)

    with FakeServer(late) as server, spawned(server, "run", "sleep", "60") as client:
        eventually(lambda: server.connections, "the connection")
        client.send_signal(signal.SIGINT)
        assert client.stderr
        assert b"asked to end once it has started" in client.stderr.readline()
        may_answer.set()
        assert client.wait(LIMIT_S) == 143
    assert "task.signal" in server.methods()


def test_a_task_that_cannot_be_signalled_is_followed_further() -> None:
    fake = FakeTask(QUIET, ends_on="never", exit_code=6)

    def refusing(peer: Peer) -> None:
        fake.task_signal = lambda peer, request: peer.reply(request, UnknownTask("no"))  # type: ignore[method-assign]
        fake(peer)

    with FakeServer(refusing) as server, spawned(server, "run", "sleep", "60") as client:
        eventually(lambda: "task.logs" in server.methods(), "the log")
        client.send_signal(signal.SIGINT)
        assert client.stderr
        client.stderr.readline()
        assert client.stderr.readline() == b"levity: the task was not asked to end: no\n"
        fake.over.set()
        assert client.wait(LIMIT_S) == 6


def test_a_background_job_ignores_ctrl_c_further() -> None:
    fake = FakeTask(QUIET, ends_on="never", exit_code=6)
    with FakeServer(fake) as server:
        command = [
            "bash",
            "-c",
            "trap '' INT; exec \"$@\"",
            "bash",
            *levity_command(),
            "-a",
            server.address,
            "run",
            "x",
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
        ) as client:
            eventually(lambda: "task.logs" in server.methods(), "the log")
            client.send_signal(signal.SIGINT)
            fake.over.set()
            out, err = client.communicate(timeout=LIMIT_S)
    assert (client.returncode, out, err) == (6, b"one\ntwo", b"")
    assert "task.signal" not in server.methods()


def test_a_reader_that_leaves_leaves_the_task_alone() -> None:
    def floods(peer: Peer) -> None:
        peer.begin()
        while True:
            peer.output(STDOUT, b"line\n" * 10_000)

    with FakeServer(after_start(floods)) as server:
        command = ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash", *levity_command(), "-a", server.address]
        done = subprocess.run(
            [*command, "run", "yes"], capture_output=True, env=clean_environment(), timeout=LIMIT_S, check=False
        )
    assert (done.returncode, done.stdout) == (141, b"line\n")
    goes_on = GOES_ON.format(id=started_id(server))
    assert done.stderr.decode() == f"levity: nobody reads the output any more; {goes_on}"
