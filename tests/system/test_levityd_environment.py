"""levityd under odd conditions: descriptors, umask, signals, working directory, user, as process 1 of a container."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from levity.errors import AuthenticationError
from levity.states import State
from tests.support import processes
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.launch import under_shell
from tests.support.other_user import as_other_user
from tests.support.paths import ROOT, levityd_command
from tests.support.raw import Raw
from tests.support.tasks import alive, client_of, ended, output, pid_at, running_in, sh

OTHER_USER = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
# The environment's own interpreter may be in root's home, which no other user may enter.
INTERPRETERS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")
CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]

Make = Callable[..., Daemon]


def works(daemon: Daemon) -> None:
    """Everything a levityd does, once, and a crash of its engine."""
    with client_of(daemon.address) as client:
        task_id = sh(client, "echo out; echo err >&2; exit 5")
        record = ended(client, task_id)
        assert (record.state, record.exit_code) == (State.FINISHED, 5)
        assert output(client, task_id) == (b"out\n", b"err\n")
        long = sh(client, "exec sleep 600")
        daemon.kill("engine")
        assert client.query(long).state is State.RUNNING
        client.signal(long)
        assert ended(client, long).signal == "SIGTERM"


@pytest.mark.parametrize(
    "prelude",
    [
        pytest.param("umask 0777;", id="the umask takes everything away"),
        pytest.param("umask 0;", id="the umask takes nothing away"),
        pytest.param("trap '' CHLD;", id="SIGCHLD is ignored"),
        pytest.param("trap '' TERM INT HUP PIPE USR1 CHLD;", id="signals are ignored"),
        pytest.param("ulimit -n 256;", id="few descriptors"),
        pytest.param("ulimit -c 0; ulimit -s 1024;", id="a small stack"),
        pytest.param("cd /proc/self/fd;", id="a working directory in its own /proc"),
    ],
)
def test_levityd_serves_whatever_it_inherits(make_daemon: Make, prelude: str) -> None:
    daemon = make_daemon(command=under_shell(prelude)).start()
    works(daemon)
    assert daemon.stop() == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_with_standard_streams_closed(make_daemon: Make, closed: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    command = ["/bin/sh", "-c", f'exec "$0" "$@" {closed}', *levityd_command()]
    daemon = make_daemon(address, command=command)
    if "2>" not in closed:
        works(daemon.start())
        return
    # Nothing says when it listens.
    environment = {"PATH": os.environ["PATH"], processes.MARK: daemon.mark}
    argv = [*command, "--state-dir", str(tmp_path / "state"), address]
    with subprocess.Popen(argv, env=environment) as process:
        try:
            eventually(lambda: pid_at(address) == process.pid, "an answer")
            works_at(address)
        finally:
            process.terminate()
            assert process.wait(10) == 0


def works_at(address: str) -> None:
    with client_of(address) as client:
        assert ended(client, sh(client, "exit 5")).exit_code == 5


def test_with_a_reader_of_stderr_that_went_away(make_daemon: Make, tmp_path: Path) -> None:
    """A log collector that is restarted must not take levityd with it."""
    address = f"unix:{tmp_path}/s"
    argv = [*levityd_command(), "--state-dir", str(tmp_path / "state"), address]
    daemon = make_daemon()  # For its mark: whatever is started here ends with it.
    environment = {"PATH": os.environ["PATH"], processes.MARK: daemon.mark}
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        works_at(address)
        daemon.kill("engine")
        works_at(address)
        process.terminate()
        assert process.wait(10) == 0


def test_from_a_working_directory_that_is_deleted(make_daemon: Make, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    works(make_daemon(command=under_shell(f"cd {gone}; rmdir {gone};")).start())


def test_with_a_thousand_inherited_descriptors(make_daemon: Make) -> None:
    code = (
        "import os, sys\n"
        "fds = [os.open('/dev/null', os.O_RDONLY) for _ in range(1000)]\n"
        "[os.set_inheritable(fd, True) for fd in fds]\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    daemon = make_daemon(command=[shutil.which("python3") or "python3", "-c", code, *levityd_command()]).start()
    works(daemon)
    # A zygote that has just been started is not done with closing what its rehearsal has opened.
    for role, pids in eventually(lambda: without_rehearsal(daemon), "the zygote to be ready").items():
        assert len(os.listdir(f"/proc/{pids[0]}/fd")) < 30, role


def without_rehearsal(daemon: Daemon) -> dict[str, list[int]]:
    roles = daemon.pids()
    assert "zygote" in roles
    return roles


def test_with_inherited_blocked_signals(make_daemon: Make) -> None:
    code = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    daemon = make_daemon(command=[shutil.which("python3") or "python3", "-c", code, *levityd_command()]).start()
    works(daemon)
    assert daemon.stop() == 0


def test_in_an_unknown_locale(make_daemon: Make) -> None:
    works(make_daemon(env={"LANG": "C", "LC_ALL": "xx_YY.nonsense"}).start())


def test_files_are_the_owners_alone_whatever_the_umask(make_daemon: Make) -> None:
    daemon = make_daemon(command=under_shell("umask 0;")).start()
    with client_of(daemon.address) as client:
        ended(client, sh(client, "echo secret"))
    found = list(daemon.state_dir.rglob("*"))
    assert found
    # Root's socket is for all users, where they can get at it: here they cannot, for the directory is in the way.
    found.remove(daemon.state_dir / "levity.sock")
    assert daemon.state_dir.stat().st_mode & 0o077 == 0
    # Nor can the front-end, which may read output because of its group: only what it is lent.
    lent = {path for path in found if path.parent.parent == daemon.state_dir / "tasks" or path.parent.name == "tasks"}
    assert [path for path in found if path.lstat().st_mode & (0o027 if path in lent else 0o077)] == []
    assert all(path.lstat().st_mode & 0o077 == 0 for path in lent if path.name in {"spec.json", "shim.json", "lock"})


def test_ps_tells_which_process_is_which(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "exec sleep 600")
        wanted = {"arbiter", "front-end", "engine", "zygote", f"shim {task_id}"}
        eventually(lambda: set(daemon.pids()) == wanted, "every title")
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    for role, pids in daemon.pids().items():
        assert any(line.split()[0] == str(pids[0]) and f"levityd: {role}" in line for line in listed.splitlines())


# Another user


def for_others() -> list[str]:
    """Return a levityd command that the other user can run; skip the test if there is none."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    path = [str(ROOT), os.path.dirname(os.path.dirname(psutil.__file__))]
    check = "import os, sys, psutil, supervisor.engine.main; sys.exit(not os.access(sys.executable, os.X_OK))"
    for python in INTERPRETERS:
        begin = [*OTHER_USER, python, "-I", "-c"]
        prelude = f"import sys; sys.path[:0] = {path!r}; "
        if subprocess.run([*begin, prelude + check], capture_output=True, check=False, cwd="/").returncode == 0:
            return [*begin, f"{prelude}from supervisor.arbiter.main import main; sys.exit(main())"]
    pytest.skip(f"none of {INTERPRETERS} can run levityd for another user from {ROOT}")


def can_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def home() -> Iterator[Path]:
    """A place that belongs to the other user."""
    place = Path(tempfile.mkdtemp(prefix="levity-home-", dir="/tmp"))
    os.chown(place, 54321, 54321)
    yield place
    shutil.rmtree(place)


_OWN_CLIENT = """
import sys
sys.path.insert(0, {root!r})
import levity.client, levity.operations.start_params, levity.operations.logs
import levity.operations.log_params, levity.operations.wait

with levity.client.Client({address!r}) as client:
    task_id = client.start(["sh", "-c", "id -u; pwd"])
    client.wait(task_id, 30)
    lost = client.start(["sh", "-c", "setsid sleep 600 & exec sleep 600"])
    shown = b"".join(chunk.data for chunk in client.logs(task_id)).decode()
    record = client.query(lost)
    os.kill(record.raw["shim_pid"], 9)
    result = [shown, client.info()["role"], record.pid, client.wait(lost, 30)[0].state]
"""


def test_as_an_ordinary_user(make_daemon: Make, home: Path) -> None:
    command = for_others()
    daemon = make_daemon(command=command, state_dir=home / "state", env={"HOME": str(home)}).start()
    code = _OWN_CLIENT.format(root=str(ROOT), address=daemon.address)
    shown, role, pid, state = as_other_user(code, uid=54321, gid=54321)
    assert (shown, role, state) == (f"54321\n{home}\n", "admin", State.INTERNAL_SERVER_ERROR)
    assert not alive(pid)
    # That user's alone: not even root's. And root's client tells nothing to a socket that is another user's.
    with Raw(daemon) as raw:
        assert "who alone may use it" in raw.hello["error"]["message"]
        assert raw.reply() == {}
    with client_of(daemon.address) as client, pytest.raises(AuthenticationError, match="neither root nor you"):
        client.info()
    assert daemon.stop() == 0


# A container


@pytest.fixture
def container(make_daemon: Make) -> Daemon:
    if not can_unshare():
        pytest.skip("needs root and unshare")
    return make_daemon(command=[*CONTAINER, *levityd_command()]).start()


def pid_1(daemon: Daemon) -> psutil.Process:
    """Return the arbiter as it is seen from outside."""
    (arbiter,) = daemon.pids()["arbiter"]
    return psutil.Process(arbiter)


def test_as_process_1_it_works_and_stops(container: Daemon) -> None:
    works(container)
    with client_of(container.address) as client:
        assert client.info()["pid"] == 1
    pid_1(container).send_signal(signal.SIGTERM)
    eventually(lambda: "stopped; no task is left running" in container.stderr_text(), "the farewell")


def test_as_process_1_it_reaps_strays(container: Daemon, tmp_path: Path) -> None:
    """Whose parent dies becomes a child of process 1: here shims of a killed engine, and their tasks' ends."""
    arbiter = pid_1(container)
    with client_of(container.address) as client:
        tasks = [sh(client, f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit 3") for _ in range(5)]
        container.kill("engine")
        eventually(lambda: len(arbiter.children()) > 3, "shims to become children of process 1")
        (tmp_path / "go").touch()
        assert [ended(client, task_id).exit_code for task_id in tasks] == [3] * 5
        stray = sh(client, f"(setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 0.5' & ) ; exec sleep 600")
        running_in(tmp_path, "pid")
        container.kill(f"shim {stray}")
        assert ended(client, stray).state is State.INTERNAL_SERVER_ERROR

    def zombies() -> list[psutil.Process]:
        found = []
        for child in arbiter.children():
            with suppress(psutil.NoSuchProcess):
                found += [child] if child.status() == psutil.STATUS_ZOMBIE else []
        return found

    eventually(lambda: not zombies() and len(arbiter.children()) == 2, "process 1 to have reaped all strays")
