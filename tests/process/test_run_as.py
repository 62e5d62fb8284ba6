"""A task that runs as another user: what it is, what it finds, and that it never is levityd's user instead."""

import errno
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from levity.states import State
from supervisor.hostos import kernel
from supervisor.spool.layout import EXIT, SPEC, TASKS
from supervisor.spool.start_failure import DIRECTORY, EXEC, StartFailure
from tests.support.deadline import eventually
from tests.support.tasks import alive
from tests.support.zygote import Zygote

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")

# No account has these numbers.
UID, GID, GROUP = 54321, 54322, 54323
# One that no other test has processes of.
UNIQUE_UID = 54396
NOBODY: dict[str, Any] = {
    "uid": UID,
    "gid": GID,
    "groups": [GID, GROUP],
    "name": "",
    "home": "/",
    "shell": "/bin/sh",
}


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of that user's, to which it can get: pytest closes its own again whenever it is started."""
    with tempfile.TemporaryDirectory(prefix="levity-home-") as place:
        os.chown(place, UID, GID)
        os.chmod(place, 0o755)
        yield Path(place)


def sh_output(zygote: Zygote, script: str, **spec: Any) -> tuple[bytes, bytes]:
    record = zygote.run(["/bin/sh", "-c", script], **{"run_as": NOBODY, **spec})
    return zygote.output(record["id"])


def failing(zygote: Zygote, argv: list[str], **spec: Any) -> StartFailure:
    """Return why a start fails."""
    task_id = zygote.prepare(argv, **spec)
    zygote.ask(task_id)
    failure = zygote.failure(task_id)
    assert sorted(os.listdir(zygote.path(task_id))) == ["lock", "spec.json"]
    return failure


# Who it is


def test_a_task_has_its_user_and_groups_and_no_capability(zygote: Zygote) -> None:
    status = sh_output(zygote, "cat /proc/$$/status")[0].decode()
    found = {name: value.split() for name, value in (line.split(":", 1) for line in status.splitlines())}
    assert found["Uid"] == [str(UID)] * 4
    assert found["Gid"] == [str(GID)] * 4
    assert found["Groups"] == [str(GID), str(GROUP)]
    assert {name: int(found[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
        "CapInh": 0,
        "CapPrm": 0,
        "CapEff": 0,
        "CapAmb": 0,
    }
    assert found["Umask"] == ["0022"]


def test_a_task_has_no_group_that_was_not_given(zygote: Zygote) -> None:
    assert sh_output(zygote, "id -u; id -g; id -G", run_as=NOBODY | {"groups": []})[0].split() == [
        *(str(UID).encode(), str(GID).encode(), str(GID).encode())
    ]


@pytest.mark.parametrize("spec", [{}, {"run_as": None}], ids=["not in the spec", "null in the spec"])
def test_without_a_user_it_is_levityd_s(zygote: Zygote, spec: dict[str, Any]) -> None:
    record = zygote.run(["id", "-u"], **spec)
    assert zygote.output(record["id"])[0] == b"0\n"


@pytest.mark.parametrize(
    ("run_as", "expected"),
    [
        pytest.param(
            {"name": "alice", "home": "/home/alice", "shell": "/bin/zsh"},
            {"USER": "alice", "LOGNAME": "alice", "HOME": "/home/alice", "SHELL": "/bin/zsh"},
            id="a user",
        ),
        pytest.param({}, {"HOME": "/", "SHELL": "/bin/sh"}, id="a user without an account"),
        pytest.param(
            {"uid": 0, "gid": 0, "groups": [0], "name": "root", "home": "/root", "shell": "/bin/bash"},
            {
                "USER": "root",
                "LOGNAME": "root",
                "HOME": "/root",
                "SHELL": "/bin/bash",
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            },
            id="root",
        ),
    ],
)
@pytest.mark.parametrize("lang", [{}, {"LANG": "C.UTF-8"}], ids=["no LANG", "LANG"])
def test_its_environment_is_clean(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_as: dict[str, Any],
    expected: dict[str, str],
    lang: dict[str, str],
) -> None:
    monkeypatch.delenv("LANG", raising=False)
    levityds = {"SECRET": "x", "LD_PRELOAD": "", "PATH": os.environ["PATH"], "HOME": "/root", "LEVITY_TOKEN": "y"}
    with Zygote(tmp_path, env=levityds | lang) as zygote:
        given = {"A": "b", "SHELL": "/bin/mine"}
        record = zygote.run(["cat", "/proc/self/environ"], run_as=NOBODY | run_as, env=given)
        entries = zygote.output(record["id"])[0].decode().split("\0")[:-1]
    found = dict(entry.split("=", 1) for entry in entries)
    path = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    assert found == path | expected | lang | given | {"LEVITY_TASK_ID": record["id"]}


def test_keys_of_levityd_s_session_stay_behind(tmp_path: Path) -> None:
    """A change of user alone keeps the keyring, and a process that possesses it can use the keys in it."""
    if not kernel.leave_session_keyring():
        pytest.skip("no keyrings here")
    get_id = "syscall(250 if os.uname().machine == 'x86_64' else 219, 0, -3, 0)"
    prelude = (
        "import ctypes, os; from supervisor.hostos.kernel import leave_session_keyring; leave_session_keyring(); "
        f"open('keyring', 'w').write(str(ctypes.CDLL(None).{get_id}))"
    )
    with Zygote(tmp_path, prelude=prelude) as zygote:
        code = f"import ctypes, os; print(ctypes.CDLL(None).{get_id})"
        for run_as, is_same in ((None, True), (NOBODY, False)):
            record = zygote.run([_python(), "-I", "-S", "-c", code], run_as=run_as)
            seen = int(zygote.output(record["id"])[0])
            assert seen > 0
            assert (seen == int((tmp_path / "keyring").read_text())) is is_same


def _python() -> str:
    """Return an interpreter that everybody may execute."""
    found = "/usr/bin/python3"
    if not os.access(found, os.X_OK):
        pytest.skip("no interpreter for everybody")
    return found


# Where it is


def test_a_task_starts_in_its_home_or_in_a_directory_from_there(zygote: Zygote, home: Path) -> None:
    (home / "sub").mkdir(mode=0o755)
    at_home = NOBODY | {"home": str(home)}
    for spec, expected in (
        ({"run_as": at_home}, str(home)),
        ({"run_as": at_home, "cwd": "sub"}, str(home / "sub")),
        ({"run_as": at_home, "cwd": "/usr"}, "/usr"),
        ({"run_as": NOBODY | {"home": "/nowhere"}}, "/"),
        # It is there, and root could go there.
        ({"run_as": NOBODY | {"home": str(zygote.directory)}}, "/"),
    ):
        assert sh_output(zygote, "/bin/pwd", **spec)[0].decode() == f"{expected}\n"


def test_a_task_may_enter_and_execute_what_its_user_may(zygote: Zygote, home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    tool = home / "tool"
    tool.write_text("#!/bin/sh\nid -u\n")
    tool.chmod(0o700)
    assert failing(zygote, ["true"], run_as=NOBODY, cwd=str(closed)) == StartFailure(DIRECTORY, errno.EACCES)
    assert failing(zygote, [str(tool)], run_as=NOBODY) == StartFailure(EXEC, errno.EACCES)
    assert failing(zygote, ["tool"], run_as=NOBODY, env={"PATH": f"{home}:/nowhere"}) == StartFailure(
        EXEC, errno.EACCES
    )
    assert failing(zygote, [str(closed / "tool")], run_as=NOBODY) == StartFailure(EXEC, errno.EACCES)
    assert failing(zygote, ["/nowhere"], run_as=NOBODY) == StartFailure(EXEC, errno.ENOENT)
    # What root may not care about is that user's alone, and the other way round.
    os.chown(tool, UID, GID)
    record = zygote.run([str(tool)], run_as=NOBODY)
    assert zygote.output(record["id"])[0] == f"{UID}\n".encode()


@pytest.fixture
def neighbour() -> Iterator[None]:
    """A process of that user's: setresuid(2) compares the limit with the processes that the user already has."""
    with subprocess.Popen(["sleep", "infinity"], user=UID, group=GID, extra_groups=[]) as process:
        yield
        process.kill()


@pytest.mark.usefixtures("neighbour")
def test_the_limit_on_its_user_s_processes_holds(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    with Zygote(tmp_path, prelude=f"import resource; resource.setrlimit(resource.RLIMIT_NPROC, (0, {hard}))") as zygote:
        assert failing(zygote, ["true"], run_as=NOBODY) == StartFailure(EXEC, errno.EAGAIN)
        assert zygote.run(["true"])["exit_code"] == 0


# Its descriptors


def test_a_task_can_open_its_output_again(zygote: Zygote) -> None:
    script = "echo out > /dev/stdout && echo err > /dev/stderr && echo more >> /proc/self/fd/1"
    assert sh_output(zygote, script) == (b"out\nmore\n", b"err\n")


def test_merged_it_can_open_both_and_they_are_one(zygote: Zygote) -> None:
    script = "echo out > /dev/stdout && echo err > /dev/stderr"
    assert sh_output(zygote, script, merged=True) == (b"out\nerr\n", b"")


@pytest.mark.parametrize("run_as", [NOBODY, None], ids=["another user", "levityd's user"])
def test_a_task_gets_its_input_and_can_open_it_again(zygote: Zygote, run_as: dict[str, Any] | None) -> None:
    """Even when the last of it has been fed and the pipe has no writer any more."""
    script = "read line && sleep 0.1 && cat /dev/stdin && echo $line"
    task_id = zygote.prepare(["/bin/sh", "-c", script], run_as=run_as, stdin=True)
    (zygote.path(task_id) / "stdin.0000000000000000.log").write_bytes(b"first\nsecond\n")
    (zygote.path(task_id) / "stdin.end").touch()
    zygote.ask(task_id)
    assert zygote.exit(task_id)["exit_code"] == 0
    assert zygote.output(task_id)[0] == b"second\nfirst\n"


@pytest.mark.parametrize("stdin", [False, True], ids=["no input", "input"])
def test_a_task_has_exactly_three_descriptors(zygote: Zygote, stdin: bool) -> None:
    task_id = zygote.start(["sleep", "600"], run_as=NOBODY, stdin=stdin)
    pid = zygote.facts(task_id)["task_pid"]
    # While sleep(1) is being loaded it has a library or a locale open for moments.
    eventually(lambda: sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"], "no other descriptor")
    with open(f"/proc/{pid}/oom_score_adj") as task, open("/proc/self/oom_score_adj") as own:
        assert task.read() == own.read()


def test_a_descriptor_of_levityd_s_is_no_way_into_the_state_directory(zygote: Zygote) -> None:
    """Until execve(2) there are some open, of which /proc/self/fd would let it make its directory or its program.

    The task's directory is made for everybody here, so that only the closed one above keeps others out.
    """
    allowed = [StartFailure(DIRECTORY, errno.ENOENT), StartFailure(DIRECTORY, errno.ENOTDIR)]
    for fd in range(3, 16):
        assert failing(zygote, ["/bin/pwd"], run_as=NOBODY, cwd=f"/proc/self/fd/{fd}") in allowed
    assert failing(zygote, ["/bin/pwd"], run_as=NOBODY, cwd="/proc/self/cwd/tasks") == StartFailure(
        DIRECTORY, errno.ENOENT
    )
    for fd in range(3, 16):
        assert failing(zygote, [f"/proc/self/fd/{fd}"], run_as=NOBODY).stage == EXEC


# What it cannot do


def test_a_task_cannot_signal_its_shim_nor_read_the_state_directory(zygote: Zygote) -> None:
    place = zygote.path(zygote.start(["sleep", "600"], run_as=NOBODY))
    script = (
        "kill -9 $PPID || echo unharmed; kill -STOP $PPID || echo unstopped; "
        f"cat {place}/spec.json || echo unread; ls {place} || echo unseen; "
        f"echo x > {place}/stdout.0000000000000000.log || echo unwritten; "
        "cat /proc/$PPID/environ || echo unknown; ls /proc/$PPID/fd || echo closed"
    )
    record = zygote.run(["/bin/sh", "-c", script], run_as=NOBODY)
    words = b"unharmed unstopped unread unseen unwritten unknown closed"
    assert zygote.output(record["id"])[0].split() == words.split()
    assert record["exit_code"] == 0


# Its end


def test_a_task_dies_with_its_shim(zygote: Zygote) -> None:
    task_id = zygote.start(["sleep", "30"], run_as=NOBODY)
    pid, shim = zygote.facts(task_id)["task_pid"], zygote.shim(task_id)
    zygote.process.kill()  # It would kill what a shim leaves behind.
    zygote.process.wait()
    os.kill(shim, signal.SIGKILL)
    eventually(lambda: not alive(pid), "the leader to die")
    assert zygote.record(task_id, EXIT) is None


def test_a_task_is_signalled_and_killed_with_its_whole_tree(zygote: Zygote) -> None:
    other = NOBODY | {"uid": UNIQUE_UID}
    task_id = zygote.start(["sleep", "600"], run_as=other)
    zygote.signal(task_id)
    record = zygote.exit(task_id)
    assert (record["state"], record["signal"]) == (State.FINISHED, "SIGTERM")
    script = "trap '' TERM; setsid sleep 600 & setsid sleep 600 & echo ready; while :; do sleep 0.02; done"
    task_id = zygote.sh(script, run_as=other, grace_s=0.2)
    eventually((zygote.path(task_id) / "stdout.0000000000000000.log").read_bytes, "its trap")
    zygote.signal(task_id)
    assert zygote.exit(task_id)["state"] == State.BRUTALLY_KILLED
    assert not _processes_of(UNIQUE_UID)


def _processes_of(uid: int) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}").st_uid == uid:
                found.append(pid)
        except FileNotFoundError:
            continue
    return found


# Never as levityd's user

WRONG: dict[str, list[Any]] = {
    "uid": [None, "", "0", True, -1, 2**32 - 1, 2**32, 2**64, 1.0, []],
    "gid": [None, "0", -1, 2**32 - 1, 2**32],
    "groups": [None, "", 0, {}, [None], ["0"], [-1], [2**32 - 1], [[]], [0] * 65537],
    "name": [None, 0, [], "a\0b", "\ud800"],
    "home": [None, 0, [], "/a\0b", "/\ud800", "", "home"],
    "shell": [None, 0, [], "a\0b", "\ud800"],
}
MALFORMED: list[Any] = [
    *({}, [], "", "root", 0, False, True, [0]),
    *({name: value for name, value in NOBODY.items() if name != missing} for missing in NOBODY),
    *(NOBODY | {name: value} for name, values in WRONG.items() for value in values),
]


def test_with_a_malformed_user_nothing_runs(zygote: Zygote) -> None:
    proof = zygote.directory / "proof"
    found = {repr(run_as): failing(zygote, ["touch", str(proof)], run_as=run_as) for run_as in MALFORMED}
    assert found == dict.fromkeys(found, StartFailure("note", errno.EINVAL))
    assert not proof.exists()


@pytest.mark.parametrize(
    "prelude",
    [
        # capabilities(7), SECBIT_NO_SETUID_FIXUP: a process that becomes another user keeps root's powers.
        "import ctypes; assert ctypes.CDLL(None).prctl(28, 1 << 2, 0, 0, 0) == 0",
        # A levityd that is not root: it has all that it needs for its own tasks, and nothing for this one.
        "import os, supervisor.shim.zygote; os.setgid(54321); os.setuid(54321)",
    ],
    ids=["way-back", "not-root"],
)
def test_where_the_user_cannot_be_changed_for_good_nothing_runs(tmp_path: Path, prelude: str) -> None:
    proof = tmp_path / "proof"
    (tmp_path / TASKS).mkdir()
    for path in (tmp_path, tmp_path / TASKS):
        path.chmod(0o777)
    with Zygote(tmp_path, prelude=prelude, env={"HOME": "/"}) as zygote:
        task_id = zygote.prepare(["touch", str(proof)], run_as=NOBODY)
        zygote.path(task_id).chmod(0o777)
        (zygote.path(task_id) / SPEC).chmod(0o644)
        zygote.ask(task_id)
        assert zygote.failure(task_id) == StartFailure("user", errno.EPERM)
    assert not proof.exists()
