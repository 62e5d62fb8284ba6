"""Bad input to the command: one clear line, the right exit code, nothing lost; and every byte value through it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from levity import Client
from levity.errors import InvalidRequest, NoSpace, NotExecutable
from levity.states import State
from tests.support.cli import levity
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import client_of, ended, output, sh

ALL_BYTES = bytes(range(256))
NO_NUL = bytes(range(1, 256))
# A program that shows what it was given, byte for byte.
SHOW = "import os, sys; sys.stdout.buffer.write({})"

# Answers a client in another protocol.
HTTP_SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
client = server.accept()[0]
client.sendall(b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n")
client.recv(1)
"""


@pytest.fixture
def client(shared_daemon: Daemon) -> Iterator[Client]:
    with client_of(shared_daemon.address) as one:
        yield one


def complaint(daemon: Daemon | str | None, *arguments: str | bytes, code: int) -> str:
    """Run a command that must fail with `code`, saying one line; return that line."""
    done = levity(daemon, *arguments)
    assert done.returncode == code, done
    assert done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("levity: ")
    assert "Traceback" not in lines[0]
    return lines[0]


def nothing_more(client: Client, before: list[str]) -> None:
    """Nothing was left behind by what was refused."""
    assert [record.id for record in client.list(all=True)] == before


def show(client: Client, what: str, **options: object) -> bytes:
    """Run a program that prints an expression about itself; return what it printed."""
    argv = options.pop("argv", [])
    assert isinstance(argv, list)
    task_id = client.start([sys.executable, "-I", "-c", SHOW.format(what), *argv], **options)  # type: ignore[arg-type]
    assert ended(client, task_id).exit_code == 0, output(client, task_id)
    return output(client, task_id)[0]


# Ids


def test_an_unknown_id(shared_daemon: Daemon) -> None:
    for command in ("query", "signal", "logs"):
        for unknown in ("ffffffff-0000-4000-8000-000000000000", "zzz", "*", "a' OR 'a'='a", "../../etc/passwd", "%"):
            assert unknown[:3] in complaint(shared_daemon, command, unknown, code=1)


def test_an_ambiguous_prefix_names_what_it_could_mean(client: Client, shared_daemon: Daemon) -> None:
    ids = [f"0123456{digit}-0000-4000-8000-000000000000" for digit in "789"]
    for task_id in ids:
        client.start(["/bin/true"], task_id=task_id)
    for command in ("query", "signal", "logs"):
        assert ids[0] in complaint(shared_daemon, command, "0123456", code=1)
    assert levity(shared_daemon, "query", "01234567").returncode == 0
    assert levity(shared_daemon, "query", ids[2].upper()).returncode == 0


def test_an_id_that_is_missing_or_one_too_many(shared_daemon: Daemon) -> None:
    for arguments in (["query"], ["query", "a", "b"], ["signal"], ["logs"], ["query", ""]):
        complaint(shared_daemon, *arguments, code=2)


# Addresses


@pytest.mark.parametrize(
    "command", [["query", "a"], ["signal", "a"], ["logs", "a"], ["start", "--", "true"]], ids=" ".join
)
def test_no_server(command: list[str], tmp_path: Path) -> None:
    for address in ("127.0.0.1:1", f"unix:{tmp_path}/none", "[::1]:1"):
        assert address in complaint(address, *command, code=255)


def test_a_wrong_address() -> None:
    for address in ("nonsense", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "unix:", "/tmp/x", ":1"):
        assert address in complaint(address, "query", "a", code=2)


def test_an_address_where_something_else_listens() -> None:
    with subprocess.Popen([sys.executable, "-c", HTTP_SERVER], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = server.stdout.readline().decode().strip()
        assert "no levityd" in complaint(f"127.0.0.1:{port}", "query", "a", code=255)
        server.kill()


# Commands


def test_a_command_that_is_not_there(shared_daemon: Daemon, client: Client) -> None:
    before = [record.id for record in client.list(all=True)]
    for name in ("no-such-command", "/no/such/command", "./relative", "/etc/passwd/x"):
        assert repr(name)[:8] in complaint(shared_daemon, "start", "--", name, code=127)
    complaint(shared_daemon, "start", "--", "", code=2)
    nothing_more(client, before)


def test_a_command_that_cannot_be_executed(shared_daemon: Daemon, client: Client, tmp_path: Path) -> None:
    before = [record.id for record in client.list(all=True)]
    plain, noise, busy = tmp_path / "plain", tmp_path / "noise", tmp_path / "busy"
    plain.write_text("#!/bin/sh\n")
    noise.write_text("this is no program")
    noise.chmod(0o755)
    busy.write_bytes(Path("/bin/true").read_bytes())
    busy.chmod(0o755)
    assert "ermission" in complaint(shared_daemon, "start", "--", str(plain), code=126)
    assert "#!" in complaint(shared_daemon, "start", "--", str(noise), code=126)
    complaint(shared_daemon, "start", "--", str(tmp_path), code=126)
    with busy.open("r+b"):
        assert "writing" in complaint(shared_daemon, "start", "--", str(busy), code=126)
    nothing_more(client, before)


def test_a_script_whose_interpreter_is_missing(shared_daemon: Daemon, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert "interpreter" in complaint(shared_daemon, "start", "--", str(script), code=127)


def test_a_working_directory_that_is_not_there(shared_daemon: Daemon, client: Client, tmp_path: Path) -> None:
    before = [record.id for record in client.list(all=True)]
    for directory in ("/no/such/directory", "/etc/passwd", str(tmp_path / ("x" * 300))):
        assert directory[:10] in complaint(shared_daemon, "start", "-d", directory, "--", "true", code=1)
    complaint(shared_daemon, "start", "-d", "", "--", "true", code=2)
    nothing_more(client, before)


def test_a_nul_in_what_no_program_can_be_given(client: Client) -> None:
    """The command line cannot even say it; the library can."""
    before = [record.id for record in client.list(all=True)]
    tries: list[Callable[[], object]] = [
        lambda: client.start(["/bin/echo", "a\0b"]),
        lambda: client.start(["/bin/echo"], cwd="/tmp\0"),
        lambda: client.start(["/bin/echo"], env={"A\0": "b"}),
        lambda: client.start(["/bin/echo"], env={"A": "b\0"}),
        lambda: client.start(["/bin/echo"], env={"A=B": "c"}),
        lambda: client.start(["/bin/echo"], env={"": "c"}),
        lambda: client.start([]),
    ]
    for attempt in tries:
        with pytest.raises(InvalidRequest):
            attempt()
    nothing_more(client, before)


def test_a_malformed_environment_name(shared_daemon: Daemon) -> None:
    for text in ("=value", "novalue", ""):
        complaint(shared_daemon, "start", "-D", text, "--", "true", code=2)
    # The first "=" ends the name.
    done = levity(shared_daemon, "start", "-D", "A=B=C", "--", "true")
    assert done.returncode == 0


def test_an_argument_list_that_is_too_long(client: Client) -> None:
    before = [record.id for record in client.list(all=True)]
    with pytest.raises(NotExecutable, match="too long"):
        client.start(["/bin/true", "x" * 131_072])
    for count in (3_000, 20_000):
        with pytest.raises(NotExecutable, match="too long"):
            client.start(["/bin/true", *["x" * 1000] * count])
    nothing_more(client, before)
    task_id = client.start(["/bin/true", "x" * 131_071])
    assert ended(client, task_id).exit_code == 0


def test_a_nonsensical_command_line(shared_daemon: Daemon) -> None:
    for arguments in (
        [],
        ["frobnicate"],
        ["start"],
        ["start", "--"],
        ["--nonsense"],
        ["start", "--grace", "x", "true"],
    ):
        complaint(shared_daemon, *arguments, code=2)
    for timeout in ("0", "-1", "x", "nan", "inf"):
        complaint(shared_daemon, "-t", timeout, "query", "a", code=2)


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a small file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave no block free."""
    ballast = place / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return ballast


def test_a_full_disk_refuses_a_start_and_loses_nothing(make_daemon: Callable[..., Daemon], small_disk: Path) -> None:
    daemon = make_daemon(state_dir=small_disk / "state").start()
    with client_of(daemon.address) as client:
        before = sh(client, "echo kept; exit 3")
        record = ended(client, before)
        ballast = fill(small_disk)
        with pytest.raises(NoSpace):
            sh(client, "exit 0")
        assert "no space" in complaint(daemon, "start", "--", "true", code=1)
        assert client.query(before).raw == record.raw
        assert output(client, before) == (b"kept\n", b"")
        daemon.kill("engine")
        assert client.query(before).raw == record.raw
        ballast.unlink()
        assert ended(client, sh(client, "exit 4")).exit_code == 4
        assert len(list(client.list(all=True))) == 2


def test_a_task_waits_for_room_and_no_byte_is_lost(make_daemon: Callable[..., Daemon], small_disk: Path) -> None:
    daemon = make_daemon(state_dir=small_disk / "state").start()
    with client_of(daemon.address) as client:
        task_id = sh(client, "read go < /dev/null; while [ ! -e $GO ]; do sleep 0.02; done; seq 200000; exit 7",
                     env={"GO": str(small_disk.parent / "go")})  # fmt: skip
        ballast = fill(small_disk)
        (small_disk.parent / "go").touch()
        shim = client.query(task_id).shim_pid
        assert client.query(task_id).state is State.RUNNING
        ballast.unlink()
        assert shim is not None
        record = ended(client, task_id)
        assert record.exit_code == 7
        assert output(client, task_id)[0] == b"".join(b"%d\n" % number for number in range(1, 200_001))


def test_a_task_that_ends_on_a_full_disk_is_known_when_there_is_room(
    make_daemon: Callable[..., Daemon], small_disk: Path
) -> None:
    daemon = make_daemon(state_dir=small_disk / "state").start()
    with client_of(daemon.address) as client:
        go = small_disk.parent / "go"
        task_id = sh(client, f"while [ ! -e {go} ]; do sleep 0.02; done; echo last words; exit 7")
        record = client.query(task_id)
        ballast = fill(small_disk)
        go.touch()
        assert record.pid is not None
        assert record.shim_pid is not None
        leader, shim = psutil.Process(record.pid), psutil.Process(record.shim_pid)
        eventually(lambda: leader.status() == psutil.STATUS_ZOMBIE, "the task's exit")
        before = sum(shim.cpu_times()[:2])
        assert client.query(task_id).state is State.RUNNING
        time.sleep(0.6)  # Not waiting for anything: what is measured is what happens meanwhile.
        assert sum(shim.cpu_times()[:2]) - before < 0.2, "the shim spins while it waits for room"
        ballast.unlink()
        assert ended(client, task_id).exit_code == 7
        assert output(client, task_id)[0] == b"last words\n"


# Every byte


def test_every_byte_value_in_arguments(client: Client) -> None:
    shown = show(client, "b'|'.join(map(os.fsencode, sys.argv[1:]))", argv=[NO_NUL, b"", NO_NUL[::-1], b"\xff", "ä €"])
    assert shown == b"|".join([NO_NUL, b"", NO_NUL[::-1], b"\xff", "ä €".encode()])


def test_every_byte_value_in_arguments_of_the_command(shared_daemon: Daemon, client: Client) -> None:
    code = SHOW.format("os.fsencode(sys.argv[1])")
    done = levity(shared_daemon, b"start", b"--", sys.executable, b"-I", b"-c", code, NO_NUL)
    assert done.returncode == 0, done
    task_id = done.stdout.decode().strip()
    ended(client, task_id)
    assert levity(shared_daemon, "logs", task_id).stdout == NO_NUL
    assert levity(shared_daemon, "query", "--json", task_id).returncode == 0
    assert levity(shared_daemon, "list", "--all").returncode == 0


def test_every_byte_value_in_environment_values_and_names(shared_daemon: Daemon, client: Client) -> None:
    name = bytes(value for value in NO_NUL if value != ord("="))
    assert show(client, "os.environb[b'A']", env={b"A": NO_NUL}) == NO_NUL
    assert show(client, f"os.environb[{name!r}]", env={name: b"found"}) == b"found"
    code = SHOW.format("os.environb[b'A']")
    done = levity(shared_daemon, b"start", b"-D", b"A=" + NO_NUL, b"--", sys.executable, b"-I", b"-c", code)
    task_id = done.stdout.decode().strip()
    ended(client, task_id)
    assert output(client, task_id)[0] == NO_NUL


def test_every_byte_value_in_names_of_directories_and_commands(
    shared_daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    name = bytes(value for value in NO_NUL if value != ord("/"))
    directory = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(directory)
    assert show(client, "os.getcwdb()", cwd=directory) == directory
    program = os.path.join(directory, name[:100])
    os.symlink("/bin/pwd", program)
    done = levity(shared_daemon, b"start", b"-d", directory, b"--", program, b"-P")
    task_id = done.stdout.decode().strip()
    ended(client, task_id)
    assert output(client, task_id)[0] == directory + b"\n"


def test_every_byte_value_in_output(shared_daemon: Daemon, client: Client) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256))); sys.stderr.buffer.write(bytes(range(255, -1, -1)))"
    task_id = client.start([sys.executable, "-I", "-c", code])
    ended(client, task_id)
    done = levity(shared_daemon, "logs", task_id)
    assert (done.returncode, done.stdout, done.stderr) == (0, ALL_BYTES, ALL_BYTES[::-1])
