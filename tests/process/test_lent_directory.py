"""What an unprivileged front-end can do with a task's directory that it was lent, and what it cannot."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.engine.loop import Loop
from supervisor.engine.storage import task_directory as directory
from supervisor.engine.storage.lending import lend
from supervisor.engine.tasks.spawner import ShimSpawner
from supervisor.spool.files import write_record
from tests.support.deadline import eventually
from tests.support.other_user import GID, UID, as_other_user, attempts
from tests.support.records import an_end, spec
from tests.support.zygote import Zygote

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")

ID = "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42"
SPEC = spec(id=ID, argv=["true"])
OUTPUT, ERRORS = "stdout.0000000000000000.log", "stderr.0000000000000000.log"
INDEX = "index.0000000000000000"
READABLE = {OUTPUT, ERRORS, INDEX, "exit.json", "output.removed"}
END = an_end()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zygote]:
    """A zygote as the engine starts it where the front-end is another user."""
    monkeypatch.chdir(tmp_path)
    with Zygote(tmp_path, umask=0o027) as one:
        (tmp_path / "tasks").chmod(0o700)
        before = os.umask(0o077)  # As in the engine.
        yield one
        os.umask(before)
        assert one.crash_log() == ""


def asked(zygote: Zygote, script: str, gid: int | None = GID, **said: Any) -> Path:
    """Have a task's directory made by the engine's own function, and its shim started."""
    directory.create(ID, spec(**{"id": ID, "argv": ["/bin/sh", "-c", script], **said}), gid)
    zygote.ask(ID)
    return zygote.path(ID)


def run(zygote: Zygote, script: str, gid: int | None = GID, **spec: Any) -> Path:
    place = asked(zygote, script, gid, **spec)
    assert zygote.exit(ID)["exit_code"] == 0
    return place


def modes(place: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) for path in place.iterdir()}


class Lent:
    """A directory that is lent, as a context."""

    def __init__(self, gid: int | None = GID) -> None:
        self.fd = lend(ID, gid)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def read(fd: int, *names: str) -> dict[str, Any]:
    """Return what the front-end's user reads in files of the directory `fd`."""
    actions = {name: f"os.read(os.open({name!r}, os.O_RDONLY, dir_fd={fd}), 4096).decode()" for name in names}
    return attempts(actions, pass_fds=[fd])


# What is made for it


def test_output_and_end_are_for_the_group_and_all_else_is_not(shared: Zygote) -> None:
    place = run(shared, "echo out; echo err >&2")
    directory.remove_output(ID, 0)
    found = modes(place)
    assert found.keys() >= READABLE | {"spec.json", "shim.json", "lock", "control"}
    assert found == {name: (GID, 0o640 if name in READABLE else 0o600) for name in found}
    assert (place.stat().st_gid, stat.S_IMODE(place.stat().st_mode)) == (GID, 0o2750)


def test_without_a_group_only_levityd_can_read(shared: Zygote) -> None:
    shared.exit(shared.sh("exit 0"))  # Both rehearse in the same place, so one after the other.
    with Zygote(shared.directory, listens=False) as private:
        place = run(private, "echo out; echo err >&2", None)
        directory.remove_output(ID, 0)
        assert set(modes(place).values()) == {(0, 0o600)}
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize(("gid", "mode"), [(GID, 0o640), (None, 0o600)], ids=["for a group", "for nobody"])
def test_the_end_that_the_engine_stores_is_as_readable(shared: Zygote, gid: int | None, mode: int) -> None:
    directory.create(ID, SPEC, gid)
    directory.store_exit(ID, END)
    assert modes(shared.path(ID))["exit.json"] == (gid or 0, mode)
    assert os.umask(0o077) == 0o077


@pytest.mark.parametrize(("shares", "umask"), [(True, "0027"), (False, "0077")], ids=["for a group", "for nobody"])
def test_the_engine_s_zygote_makes_files_as_readable(shared: Zygote, shares: bool, umask: str) -> None:
    assert shared.directory.exists()
    spawner = ShimSpawner(Loop(), lambda _gone: None, lambda: None, shared=shares)
    process, socket = spawner._process, spawner._socket
    assert process is not None
    assert socket is not None
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    assert f"Umask:\t{umask}" in status
    socket.close()
    process.wait(10)


# What it can do


def test_a_front_end_reads_the_output_and_the_end(shared: Zygote) -> None:
    run(shared, "echo out; echo err >&2")
    with Lent() as fd:
        found = read(fd, OUTPUT, ERRORS, "exit.json")
        assert (found[OUTPUT], found[ERRORS]) == ("out\n", "err\n")
        assert '"exit_code": 0' in found["exit.json"]


def test_a_front_end_is_told_of_changes(shared: Zygote) -> None:
    place = asked(shared, "while [ ! -e go ]; do sleep 0.01; done; echo out", cwd=str(shared.directory))
    shared.facts(ID)
    code = """
watch = Inotify().watch("/proc/self/fd/FD/.")
result = [watch.arm()]
poller = select.poll()
poller.register(watch.fd, select.POLLIN)
go()
result.append(bool(poller.poll(10000)))
"""
    with Lent() as fd:
        told, other = os.pipe()
        try:
            # It cannot make the file that the task waits for, so it has this process do it.
            script = code.replace("FD", str(fd)).replace("go()", f"os.write({other}, b'x')")
            pid = os.fork()
            if pid == 0:
                os.read(told, 1)
                (shared.directory / "go").touch()
                os._exit(0)
            assert as_other_user(script, pass_fds=[fd, other]) == [True, True]
            os.waitpid(pid, 0)
        finally:
            os.close(told)
            os.close(other)
    eventually((place / OUTPUT).exists, "the output")


# What it cannot do


def test_a_front_end_reads_nothing_else(shared: Zygote) -> None:
    run(shared, "echo out")
    other = shared.prepare(["true"])
    shared.path(other).chmod(0o755)
    for path in (shared.path(other) / "exit.json", shared.directory / "token"):
        path.write_text("secret")
        path.chmod(0o644)
    closed = ("spec.json", "shim.json", "lock", "control", "..", f"../{other}/exit.json", "../../token")
    with Lent() as fd:
        assert read(fd, *closed) == dict.fromkeys(closed, "EACCES")


def test_a_front_end_changes_nothing(shared: Zygote) -> None:
    place = run(shared, "echo out")
    before = modes(place)
    with Lent() as fd:
        actions = {
            "write": f"os.open({OUTPUT!r}, os.O_WRONLY, dir_fd={fd})",
            "truncate": f"os.open({OUTPUT!r}, os.O_RDWR | os.O_TRUNC, dir_fd={fd})",
            "make": f"os.open('new', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd={fd})",
            "mkdir": f"os.mkdir('new', dir_fd={fd})",
            "link": f"os.symlink('/etc/passwd', 'new', dir_fd={fd})",
            "rename": f"os.rename({OUTPUT!r}, 'new', src_dir_fd={fd}, dst_dir_fd={fd})",
            "unlink": f"os.unlink('exit.json', dir_fd={fd})",
            "command": f"os.open('control', os.O_WRONLY | os.O_NONBLOCK, dir_fd={fd})",
            "feed": f"os.open('stdin.0000000000000000.log', os.O_WRONLY | os.O_CREAT, 0o600, dir_fd={fd})",
            "chmod file": f"os.chmod({OUTPUT!r}, 0o666, dir_fd={fd})",
            "chmod": f"os.fchmod({fd}, 0o777)",
            "chown": f"os.fchown({fd}, {UID}, -1)",
            "touch": f"os.utime({fd})",
            "by name": "os.open('/proc/self/fd/%d/new' % FD, os.O_WRONLY | os.O_CREAT)".replace("FD", str(fd)),
        }
        refused = {"EACCES", "EPERM"}
        found = attempts(actions, pass_fds=[fd])
        assert {name: answer in refused for name, answer in found.items()} == dict.fromkeys(actions, True), found
    assert modes(place) == before
    assert (place / OUTPUT).read_bytes() == b"out\n"


def test_a_third_user_reads_nothing(shared: Zygote) -> None:
    run(shared, "echo out")
    with Lent() as fd:
        action = {"read": f"os.open({OUTPUT!r}, os.O_RDONLY, dir_fd={fd})"}
        assert attempts(action, gid=GID + 1, pass_fds=[fd]) == {"read": "EACCES"}


# What an older levity made


def test_a_directory_of_an_older_levity_is_mended(shared: Zygote) -> None:
    shared.exit(shared.sh("exit 0"))  # Both rehearse in the same place, so one after the other.
    with Zygote(shared.directory, listens=False) as private:
        place = run(private, "echo out; echo err >&2", None)
    with Lent() as fd:
        assert read(fd, OUTPUT, "exit.json", "spec.json", "shim.json") == {
            OUTPUT: "out\n",
            "exit.json": (place / "exit.json").read_text(),
            "spec.json": "EACCES",
            "shim.json": "EACCES",
        }
        assert attempts({"make": f"os.mkdir('x', dir_fd={fd})"}, pass_fds=[fd]) == {"make": "EACCES"}
    assert stat.S_IMODE(place.stat().st_mode) == 0o2750
    assert {name for name, (gid, mode) in modes(place).items() if (gid, mode) == (GID, 0o640)} == READABLE - {
        "output.removed"
    }
    # Done: from now on it costs no look at its files.
    (place / OUTPUT).chmod(0o600)
    with Lent():
        assert modes(place)[OUTPUT] == (GID, 0o600)


def test_a_directory_whose_shim_is_an_older_levity_s_is_mended_each_time(shared: Zygote) -> None:
    directory.create(ID, SPEC)
    place = shared.path(ID)
    (place / OUTPUT).write_bytes(b"first")
    with Lent() as fd:
        assert read(fd, OUTPUT) == {OUTPUT: "first"}
    later = "stdout.0000000000000005.log"
    (place / later).write_bytes(b"later")
    (place / "exit.json").write_bytes(b"{}")
    with Lent() as fd:
        assert read(fd, OUTPUT, later, "exit.json") == {OUTPUT: "first", later: "later", "exit.json": "{}"}
    assert stat.S_IMODE(place.stat().st_mode) == 0o2750


def test_a_directory_is_mended_for_another_group(shared: Zygote) -> None:
    run(shared, "echo out")
    with Lent(GID + 1) as fd:
        action = {"read": f"os.read(os.open({OUTPUT!r}, os.O_RDONLY, dir_fd={fd}), 9).decode()"}
        assert attempts(action, gid=GID + 1, pass_fds=[fd]) == {"read": "out\n"}
        assert attempts(action, gid=GID, pass_fds=[fd]) == {"read": "EACCES"}


@pytest.mark.parametrize("gid", [None, GID], ids=["to nobody", "to a group"])
def test_a_removed_directory_cannot_be_lent(shared: Zygote, gid: int | None) -> None:
    assert not shared.path(ID).exists()
    with pytest.raises(FileNotFoundError):
        lend(ID, gid)


def test_a_link_is_not_lent(shared: Zygote) -> None:
    directory.create(ID, SPEC)
    secret = shared.directory / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    (shared.path(ID) / OUTPUT).symlink_to(secret)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="symbolic"):
        lend(ID, GID)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert (secret.stat().st_gid, stat.S_IMODE(secret.stat().st_mode)) == (0, 0o600)
    directory.remove(ID)
    shared.path(ID).symlink_to(shared.directory)
    with pytest.raises(OSError, match=r"symbolic|directory"):
        lend(ID, GID)


def test_without_a_group_a_directory_is_just_opened(shared: Zygote) -> None:
    directory.create(ID, SPEC)
    with Lent(None) as fd:
        assert os.get_inheritable(fd) is False
        write_record(fd, "exit.json", END.to_json(), durable=False)
    assert stat.S_IMODE(shared.path(ID).stat().st_mode) == 0o700
