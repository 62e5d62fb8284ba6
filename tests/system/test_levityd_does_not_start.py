"""What levityd refuses: a place that is taken or is none, a state directory that is not its own alone."""

import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from levity.states import State
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.launch import refused
from tests.support.paths import clean_environment, levityd_command
from tests.support.tasks import client_of, pid_at, sh

FAILED, USAGE, CONFIGURATION = 1, 2, 78
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


def untouched(daemon: Daemon, before: dict[str, list[int]], task_id: str) -> None:
    """The first levityd goes on, with the same processes."""
    with client_of(daemon.address) as client:
        assert client.query(task_id).state is State.RUNNING
    assert daemon.pids() == before


@pytest.fixture
def busy(make_daemon: Callable[..., Daemon]) -> Callable[[str | None], tuple[Daemon, dict[str, list[int]], str]]:
    def make(address: str | None) -> tuple[Daemon, dict[str, list[int]], str]:
        daemon = make_daemon(address).start()
        with client_of(daemon.address) as client:
            task_id = sh(client, "exec sleep 600")
        return daemon, daemon.pids(), task_id

    return make


Busy = Callable[[str | None], tuple[Daemon, dict[str, list[int]], str]]


def test_a_second_levityd_on_the_same_state_directory(busy: Busy) -> None:
    daemon, before, task_id = busy(None)
    for address in ([], ["127.0.0.1:0"], [f"unix:{daemon.state_dir}/other"]):
        code, line = refused(daemon.state_dir, *address)
        assert code == FAILED
        assert f"process {daemon.pid})" in line
        assert str(daemon.state_dir) in line
    untouched(daemon, before, task_id)


def test_a_second_levityd_on_the_same_port(busy: Busy, place: Path) -> None:
    daemon, before, task_id = busy("127.0.0.1:0")
    code, line = refused(place, daemon.address or "")
    assert code == FAILED
    assert f"process {daemon.pid} " in line
    assert str(daemon.address) in line
    untouched(daemon, before, task_id)


def test_a_second_levityd_on_the_same_unix_socket(busy: Busy, place: Path) -> None:
    daemon, before, task_id = busy(None)
    code, line = refused(place, daemon.address or "")
    assert code == FAILED
    assert f"process {daemon.pid})" in line
    untouched(daemon, before, task_id)


def test_many_started_at_once_leave_one(tmp_path: Path) -> None:
    """The first one has the state directory, the others are refused, and the directory is whole."""
    command = [*levityd_command(), "--state-dir", str(tmp_path / "state")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=clean_environment()) as first:
        others = [subprocess.Popen(command, stderr=subprocess.PIPE, env=clean_environment()) for _ in range(4)]
        all_of_them = [first, *others]
        try:
            eventually(lambda: sum(one.poll() == FAILED for one in all_of_them) == 4, "four refusals", 30)
            (left,) = [one for one in all_of_them if one.poll() is None]
            address = f"unix:{tmp_path}/state/levity.sock"
            eventually(lambda: pid_at(address) == left.pid, "the one that is left")
        finally:
            for one in all_of_them:
                one.terminate()
                one.communicate(timeout=10)


def test_a_port_that_some_other_program_has(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, line = refused(place, f"127.0.0.1:{other.getsockname()[1]}")
    assert code == FAILED
    assert f"process {os.getpid()} " in line


def test_a_unix_socket_that_some_other_program_listens_on_is_not_taken_from_it(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        code, line = refused(place, f"unix:{path}")
        assert code == FAILED
        assert str(path) in line
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_where_the_socket_should_be_is_kept(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    code, _line = refused(place, f"unix:{path}")
    assert code == CONFIGURATION
    assert path.read_text() == "data"


@pytest.mark.parametrize("address", ["4321", "127.0.0.1:99999", "127.0.0.1:", "/tmp/socket", "unix:", "::1:80", ":80"])
def test_a_malformed_address(place: Path, address: str) -> None:
    code, line = refused(place, address)
    assert code == USAGE
    assert address in line


def test_a_host_that_is_not_known(place: Path) -> None:
    code, line = refused(place, "no-such-host.invalid:4321")
    assert code == FAILED
    assert "no-such-host.invalid" in line


# The state directory


def make_link(place: Path) -> None:
    place.with_name("real").mkdir(mode=0o700)
    place.symlink_to("real")


def make_open(place: Path) -> None:
    place.mkdir()
    place.chmod(0o755)


def make_file(place: Path) -> None:
    place.write_text("")


def make_below_file(place: Path) -> None:
    place.parent.rmdir()
    place.parent.write_text("")


def make_fifo(place: Path) -> None:
    os.mkfifo(place)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_link, "symbolic link"),
        (make_open, "0755"),
        (make_file, "not a directory"),
        (make_fifo, "not a directory"),
        (make_below_file, "directory"),
    ],
)
def test_a_state_directory_that_is_wrong(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    place = tmp_path / "parent" / "state"
    place.parent.mkdir()
    make(place)
    code, line = refused(place)
    assert code == CONFIGURATION
    assert words in line.lower()
    assert str(place) in line


@needs_root
def test_a_state_directory_of_another_user(place: Path) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, 54321, 54321)
    code, line = refused(place)
    assert code == CONFIGURATION
    assert "54321" in line
    assert os.listdir(place) == []


@needs_root
def test_a_state_directory_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "closed").mkdir(mode=0o700)
    setpriv = shutil.which("setpriv")
    if setpriv is None or not _can_run_as_other():
        pytest.skip("no setpriv, or this checkout is not readable for another user")
    command = [setpriv, "--reuid=54321", "--regid=54321", "--clear-groups", *levityd_command()]
    code, line = refused(tmp_path / "closed" / "state", command=command)
    assert code == CONFIGURATION
    assert "Permission denied" in line


def _can_run_as_other() -> bool:
    command = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *levityd_command(), "--version"]
    return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0


# The registry of a newer levity


@pytest.fixture
def newer(make_daemon: Callable[..., Daemon]) -> Daemon:
    daemon = make_daemon().start()
    daemon.stop()
    registry = sqlite3.connect(daemon.state_dir / "registry.db")
    registry.execute("PRAGMA user_version = 99")
    registry.close()
    return daemon


def test_a_registry_of_a_newer_levity_is_refused_and_kept(newer: Daemon) -> None:
    before = (newer.state_dir / "registry.db").read_bytes()
    code, line = refused(newer.state_dir)
    assert code == CONFIGURATION
    assert "newer" in line
    assert "99" in line
    assert (newer.state_dir / "registry.db").read_bytes() == before
