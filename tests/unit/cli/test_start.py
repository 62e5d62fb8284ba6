"""`levity start --stdin` against a scripted levityd. Runs in: pytest."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from levity.cli.main import main
from levity.errors import UnknownTask
from tests.support.deadline import eventually
from tests.support.fake_server import ID, FakeServer, answering, record
from tests.support.fake_task import FakeTask
from tests.support.paths import clean_environment, levity_command

Captured = pytest.CaptureFixture[bytes]
LIMIT_S = 30


def run(server: FakeServer, *words: str) -> int:
    return main(["-a", server.address, *words])


@contextmanager
def spawned(server: FakeServer, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the client as a process with a pipe as standard input."""
    command = [*levity_command(), "-a", server.address, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=clean_environment()) as client:
        try:
            yield client
        finally:
            client.kill()


def test_start_stores_all_input_before_it_prints_the_id(tmp_path: Path, capfdbinary: Captured) -> None:
    (tmp_path / "in").write_bytes(b"x" * 600_000)
    fake = FakeTask(ends_on="never")
    with FakeServer(fake) as server:
        assert run(server, "start", "--stdin", str(tmp_path / "in"), "cat") == 0
    assert capfdbinary.readouterr() == (f"{fake.id}\n".encode(), b"")
    assert fake.input == b"x" * 600_000
    assert fake.input_ended.is_set()
    start, *chunks = (request.params for request in server.requests)
    assert start["stdin"] is True
    assert all(chunk["limit_bytes"] is None for chunk in chunks)


def test_start_with_its_own_standard_input() -> None:
    fake = FakeTask(ends_on="never")
    with FakeServer(fake) as server, spawned(server, "start", "--stdin=-", "cat") as client:
        out, err = client.communicate(b"abc\n", timeout=LIMIT_S)
    assert (client.returncode, out, err, fake.input) == (0, f"{fake.id}\n".encode(), b"", b"abc\n")


def test_a_start_whose_input_does_not_get_there_names_the_task(tmp_path: Path, capfdbinary: Captured) -> None:
    (tmp_path / "in").write_bytes(b"x")

    waits = f"task {ID} goes on and waits for the rest of its input; `levity signal {ID}` ends it\n"
    with FakeServer(answering(record(), UnknownTask("gone"))) as server:
        assert run(server, "start", "--stdin", str(tmp_path / "in"), "cat") == 1
        assert capfdbinary.readouterr() == (b"", f"levity: gone; {waits}".encode())
    with FakeServer(answering(record())) as server:
        assert run(server, "start", "--stdin", "/proc/self/mem", "cat") == 1
    err = capfdbinary.readouterr().err.decode()
    assert err == f"levity: cannot read the input: Input/output error; {waits}"


def test_ctrl_c_in_the_middle_of_the_input_names_the_task() -> None:
    fake = FakeTask(ends_on="never")
    with FakeServer(fake) as server, spawned(server, "start", "--stdin=-", "cat") as client:
        assert client.stdin
        client.stdin.write(b"some")
        client.stdin.flush()
        eventually(lambda: fake.input == b"some", "the input")
        client.send_signal(signal.SIGINT)
        out, err = client.communicate(timeout=LIMIT_S)
    waits = f"levity: task {fake.id} goes on and waits for the rest of its input; `levity signal {fake.id}` ends it\n"
    assert (client.returncode, out, err.decode()) == (130, b"", waits)
