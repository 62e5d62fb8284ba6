"""Unix sockets: who may connect, by their modes and by the directories that lead to them."""

import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from levity.addresses import parse_address
from supervisor.arbiter import listener as listener_module
from supervisor.arbiter.listener import Listener, find_place
from supervisor.arbiter.startup_error import StartupError
from supervisor.settings import Access

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away")


@pytest.fixture
def common() -> Iterator[Path]:
    """A directory that every user can enter."""
    path = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    path.chmod(0o755)
    yield path
    for left in path.iterdir():
        left.unlink()
    path.rmdir()


def start_as_user(action: Callable[[], object], uid: int) -> int:
    """Do something in a process of another user, and return its pid; its exit status is 0 if that goes well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            action()
            status = 0
        except OSError as error:
            status = error.errno or 1
        finally:
            os._exit(status)
    return pid


def as_user(action: Callable[[], object], uid: int) -> int:
    """Do something in a process of another user, and return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(start_as_user(action, uid), 0)[1])


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(path))


def listen_for_a_while(path: Path, uid: int) -> None:
    listener = Listener(find_place(parse_address(f"unix:{path}")), Access())
    listener.listen()
    assert path.stat().st_mode & 0o777 == (0o666 if os.geteuid() == 0 else 0o600)
    connect(path)
    if os.geteuid() == 0 and uid:
        assert as_user(lambda: connect(path), uid) == 0
    listener.close()


def test_who_may_connect_to_a_unix_socket(common: Path) -> None:
    listen_for_a_while(common / "socket", 54321)


@needs_root
def test_an_ordinary_users_socket_is_for_that_user(common: Path) -> None:
    os.chown(common, 54321, 54321)
    assert as_user(lambda: listen_for_a_while(common / "socket", 0), 54321) == 0
    go, done = os.pipe(), os.pipe()

    def serve() -> None:
        listener = Listener(find_place(parse_address(f"unix:{common / 'socket'}")), Access())
        listener.listen()
        os.write(done[1], b"x")
        os.read(go[0], 1)
        listener.close()

    pid = start_as_user(serve, 54321)
    os.read(done[0], 1)
    assert as_user(lambda: connect(common / "socket"), 54322) == errno.EACCES
    assert as_user(lambda: connect(common / "socket"), 54321) == 0
    os.write(go[1], b"x")
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (*go, *done):
        os.close(fd)


@needs_root
@pytest.mark.parametrize("what", ["missing", "fine", "writable", "foreign", "link", "file"])
def test_the_directory_of_all_users_socket(common: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    directory = common / "run"
    monkeypatch.setattr(listener_module, "SYSTEM_SOCKET", str(directory / "levity.sock"))
    if what == "link":
        directory.symlink_to(common)
    elif what == "file":
        directory.write_text("")
    elif what != "missing":
        directory.mkdir(mode=0o755)
        directory.chmod(0o775 if what == "writable" else 0o755)
        os.chown(directory, 54321 if what == "foreign" else 0, 0)
    before = os.umask(0o077)
    try:
        if what in ("missing", "fine"):
            listen_for_a_while(directory / "levity.sock", 54321)
            assert directory.stat().st_mode & 0o777 == 0o755
            assert os.listdir(directory) == ["levity.sock.lock"]
            (directory / "levity.sock.lock").unlink()
        else:
            with pytest.raises(StartupError, match="directory of root's"):
                Listener(find_place(parse_address(f"unix:{directory}/levity.sock")), Access())
    finally:
        os.umask(before)
        if directory.is_dir() and not directory.is_symlink():
            directory.rmdir()
