"""What a task finds when it wakes up: arguments, environment, directory, descriptors, signals."""

import errno
import os
import resource
import stat
from pathlib import Path

import pytest

from levity.protocol.text import bytes_to_text
from supervisor.spool.start_failure import DIRECTORY, EXEC, HOST, StartFailure
from tests.support.deadline import eventually
from tests.support.zygote import Zygote

ALL_BYTES = bytes(range(1, 256))


def test_every_byte_value_in_arguments_and_environment(zygote: Zygote) -> None:
    words = [b"", b" ", b"-", b"--", b"\n", ALL_BYTES, b"x" * 131000]
    env = {b"A": b"", b"B": ALL_BYTES, ALL_BYTES.replace(b"=", b""): b"=", b"C": "ü€𝄞".encode()}
    record = zygote.run(
        ["/bin/sh", "-c", "cat /proc/$$/cmdline; cat /proc/$$/environ >&2", *map(bytes_to_text, words)],
        env={bytes_to_text(name): bytes_to_text(value) for name, value in env.items()},
    )
    stdout, stderr = zygote.output(record["id"])
    assert stdout.split(b"\0")[3:-1] == words
    found = dict(entry.split(b"=", 1) for entry in stderr.split(b"\0")[:-1])
    assert found.items() >= env.items()
    assert found[b"LEVITY_TASK_ID"] == record["id"].encode()


def test_a_task_inherits_levityds_environment_but_not_what_is_levitys(tmp_path: Path) -> None:
    zygote = Zygote(tmp_path, env={"LEVITY_TOKEN": "secret", "OTHER": "seen"})
    try:
        record = zygote.run(["env"], env={"PATH": "/usr/bin:/bin"})
        lines = zygote.output(record["id"])[0].splitlines()
    finally:
        zygote.close()
    assert b"OTHER=seen" in lines
    assert b"PATH=/usr/bin:/bin" in lines
    assert [line for line in lines if line.startswith(b"LEVITY_")] == [f"LEVITY_TASK_ID={record['id']}".encode()]


def test_exactly_three_descriptors(zygote: Zygote) -> None:
    for _ in range(3):  # The later ones must not inherit from the earlier ones.
        pid: int = zygote.facts(zygote.start(["sleep", "600"]))["task_pid"]

        def three(pid: int = pid) -> dict[str, str]:
            found = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
            assert found.keys() == {"0", "1", "2"}
            return found

        # While sleep(1) is being loaded it has a library or a locale open for moments.
        found = eventually(three, "no other descriptor")
        assert found["0"] == "/dev/null"
        assert found["1"].startswith("pipe:")
        assert found["2"].startswith("pipe:")
        assert found["1"] != found["2"]


def proc_status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status") as file:
        return {name: value.strip() for name, _colon, value in (line.partition(":") for line in file)}


def test_default_signals_umask_group_and_session(tmp_path: Path) -> None:
    prelude = (
        "import os, signal; os.umask(0o777); signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        "signal.pthread_sigmask(signal.SIG_BLOCK, {1, 2, 15, 40}); signal.signal(40, signal.SIG_IGN)"
    )
    zygote = Zygote(tmp_path, prelude=prelude)
    try:
        task_id = zygote.start(["sleep", "600"])
        pid, shim = zygote.facts(task_id)["task_pid"], zygote.shim(task_id)
        # While it is being executed the kernel has not reset its handlers yet, perhaps.
        eventually(lambda: not int(proc_status(pid)["SigCgt"], 16), "no handler")
        status = proc_status(pid)
        # Signals 32 and 33 are glibc's own: its posix_spawn, which make uses, leaves them ignored.
        assert {name: int(status[name], 16) & ~(0b11 << 31) for name in ("SigBlk", "SigIgn", "SigCgt")} == {
            "SigBlk": 0,
            "SigIgn": 0,
            "SigCgt": 0,
        }
        assert int(status["Umask"], 8) == 0o022
        assert os.getpgid(pid) == pid
        assert os.getsid(pid) == shim == os.getpgid(shim)
        with open(f"/proc/{pid}/oom_score_adj") as task, open("/proc/self/oom_score_adj") as own:
            assert task.read() == own.read()
    finally:
        zygote.close()


def test_the_descriptor_limit_is_that_of_levityds_start(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    prelude = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, {hard})); "
        "from supervisor.hostos.descriptors import raise_descriptor_limit; raise_descriptor_limit()"
    )
    zygote = Zygote(tmp_path, prelude=prelude)
    try:
        record = zygote.run(["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"])
        assert zygote.output(record["id"])[0].split() == [b"300", b"unlimited" if hard < 0 else str(hard).encode()]
    finally:
        zygote.close()


def test_the_working_directory(zygote: Zygote) -> None:
    directory = zygote.directory / bytes_to_text(b"sp ace\xff\n")
    os.mkdir(os.fsencode(directory))
    record = zygote.run(["/bin/pwd"], cwd=bytes_to_text(os.fsencode(directory)))
    assert zygote.output(record["id"])[0] == os.fsencode(directory) + b"\n"


def test_without_a_directory_it_is_the_home(tmp_path: Path) -> None:
    for home, expected in ((str(tmp_path), str(tmp_path)), (str(tmp_path / "missing"), "/")):
        zygote = Zygote(tmp_path, env={"HOME": home}, listens=False)
        try:
            record = zygote.run(["/bin/pwd"])
            assert zygote.output(record["id"])[0] == os.fsencode(expected) + b"\n"
        finally:
            zygote.close()


@pytest.mark.parametrize("name", ["tool", "./tool"])
def test_a_program_is_looked_for_with_the_tasks_own_path_and_directory(zygote: Zygote, name: str) -> None:
    tool = zygote.directory / "tool"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    record = zygote.run([name], cwd=str(zygote.directory), env={"PATH": f"/nowhere:{zygote.directory}"})
    assert zygote.output(record["id"])[0] == b"found\n"


def failing(zygote: Zygote, argv: list[str], **spec: object) -> StartFailure:
    """Return why a start fails; nothing but what was asked is left of it."""
    task_id = zygote.prepare(argv, **spec)
    zygote.ask(task_id)
    failure = zygote.failure(task_id)
    assert sorted(os.listdir(zygote.path(task_id))) == ["lock", "spec.json"]
    assert zygote.shim(task_id) == 0
    return failure


def executable(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_commands_that_cannot_be_executed(zygote: Zygote) -> None:
    here = zygote.directory
    (here / "file").touch()
    missing = executable(here / "script", b"#!/nowhere/sh\n")
    cases = {
        "/nowhere/tool": errno.ENOENT,
        "no-such-tool": errno.ENOENT,
        "": errno.ENOENT,
        missing: errno.ENOENT,
        f"{here}/file/x": errno.ENOENT,
        str(here): errno.EACCES,
        executable(here / "plain", b"x", 0o644): errno.EACCES,
        executable(here / "binary", b"\x7fELF nonsense"): errno.ENOEXEC,
        executable(here / "noshebang", b"echo hi\n"): errno.ENOEXEC,
        "x" * 300: errno.ENAMETOOLONG,
    }
    assert {command: failing(zygote, [command]) for command in cases} == {
        command: StartFailure(EXEC, number) for command, number in cases.items()
    }
    assert failing(zygote, ["true", "x" * 131072]) == StartFailure(EXEC, errno.E2BIG)
    busy = executable(here / "busy", b"")
    with open(busy, "wb"):
        assert failing(zygote, [busy]) == StartFailure(EXEC, errno.ETXTBSY)


def test_a_permission_outweighs_a_missing_file(zygote: Zygote) -> None:
    executable(zygote.directory / "tool", b"x", 0o644)
    env = {"PATH": f"{zygote.directory}:/nowhere"}
    assert failing(zygote, ["tool"], env=env) == StartFailure(EXEC, errno.EACCES)


def test_a_directory_that_cannot_be_entered(zygote: Zygote) -> None:
    (zygote.directory / "file").touch()
    assert failing(zygote, ["true"], cwd="/nowhere") == StartFailure(DIRECTORY, errno.ENOENT)
    assert failing(zygote, ["true"], cwd=str(zygote.directory / "file")) == StartFailure(DIRECTORY, errno.ENOTDIR)


def test_a_start_that_failed_may_be_tried_again(zygote: Zygote) -> None:
    path = zygote.directory / "tool"
    task_id = zygote.prepare([str(path)])
    zygote.ask(task_id)
    assert zygote.failure(task_id) == StartFailure(EXEC, errno.ENOENT)
    executable(path, b"#!/bin/sh\nexit 9\n")
    zygote.ask(task_id)
    assert zygote.exit(task_id)["exit_code"] == 9


def test_a_directory_that_is_gone_is_an_answer(zygote: Zygote) -> None:
    task_id = zygote.prepare(["true"])
    for path in zygote.path(task_id).iterdir():
        path.unlink()
    zygote.path(task_id).rmdir()
    zygote.ask(task_id)
    assert zygote.failure(task_id) == StartFailure(HOST, errno.ENOENT)


def test_only_levityd_can_read_the_files_of_a_task(zygote: Zygote) -> None:
    record = zygote.run(["/bin/sh", "-c", "echo out; echo err >&2"])
    for path in zygote.path(record["id"]).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
