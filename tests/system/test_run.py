"""`levity run`, `levity wait` and `levity logs` as a person uses them: real processes, real terminals' signals."""

import hashlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from levity import Client, State
from tests.support.cli import levity, spawn_levity
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.noise import digest_of, noise, noise_command
from tests.support.paths import ROOT, clean_environment, levity_command
from tests.support.tasks import client_of, ended, running_in, sh

_ENDLESS = "echo $$ > pid; while echo y; do :; done"
ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f-]{27}")


def run_with(
    daemon: Daemon, *arguments: str, stdin: bytes = b"", timeout_s: float = 60
) -> "subprocess.CompletedProcess[bytes]":
    """Run `levity run ARGUMENT...` with something to read."""
    command = [*levity_command(), "-a", str(daemon.address), "run", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, env=clean_environment(), timeout=timeout_s, check=False
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 125", 125)],
)
def test_run_exits_with_the_code_of_the_task(shared_daemon: Daemon, script: str, code: int) -> None:
    done = levity(shared_daemon, "run", "sh", "-c", f"echo out; echo err >&2; {script}")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"out\n", b"err\n")


def test_run_of_what_cannot_be_executed(shared_daemon: Daemon, tmp_path: Path) -> None:
    done = levity(shared_daemon, "run", "no-such-command")
    assert done.returncode == 127
    assert done.stderr.count(b"\n") == 1
    (tmp_path / "plain").write_text("text")
    assert levity(shared_daemon, "run", str(tmp_path / "plain")).returncode == 126
    done = levity(shared_daemon, "run", "-d", "/no/such/directory", "true")
    assert done.returncode == 125
    assert b"/no/such/directory" in done.stderr


# `levity run` in 250 processes, one after the other. They are forked from one that has loaded Python and the client,
# which is most of what so short a command costs.
_ONE_AFTER_THE_OTHER = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
import levity.cli.run
from levity.cli.main import main
*options, first = sys.argv[1:]
for number in range(int(first), int(first) + 250):
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(theirs, 1)
        script = f"echo first; printf {{number}}; exit {{number % 256}}"
        os._exit(main([*options, "run", "sh", "-c", script]))
    os.close(theirs)
    with open(ours, "rb") as file:
        said = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if (code, said) != (number % 256, b"first\\n%d" % number):
        sys.exit(f"task {{number}}: exit code {{code}}, {{said}}")
"""


@pytest.mark.timeout(180)
def test_a_thousand_short_tasks_lose_no_last_line_and_no_code(daemon: Daemon) -> None:
    """Four at a time; every one says its number without a line end and exits with it."""
    command = [sys.executable, "-c", _ONE_AFTER_THE_OTHER]

    def run_250(first: int) -> "subprocess.CompletedProcess[bytes]":
        return levity(daemon, str(first), command=command, timeout_s=150)

    with ThreadPoolExecutor(4) as pool:
        for done in pool.map(run_250, range(0, 1000, 250)):
            assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("role", ["engine", "front-end", "arbiter", "all"])
def test_run_survives_sigkill_of_levityd(daemon: Daemon, role: str, tmp_path: Path) -> None:
    size = 1_000_000
    command = noise_command(5, size, 0.001)
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        arguments = [*levity_command(), "-a", str(daemon.address), "run", "--", *command]
        process = subprocess.Popen(arguments, stdout=out, stderr=err, env=clean_environment())
        for step in range(3):
            wait_for_size(tmp_path / "out", (step + 1) * 200_000)
            daemon.kill_and_revive(role)
        assert process.wait(60) == 0, (tmp_path / "err").read_bytes()[-300:]
    found = {"stdout": (tmp_path / "out").read_bytes(), "stderr": (tmp_path / "err").read_bytes()}
    assert {name: digest_of(data) for name, data in found.items()} == noise(5, size)


def wait_for_size(file: Path, least: int) -> None:
    eventually(lambda: file.stat().st_size >= least, f"{least} bytes of output", 30)


def test_ctrl_c_ends_the_task_as_signal_does(daemon: Daemon, tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 7' TERM; echo $$ > pid; while :; do sleep 0.05; done"
    with spawn_levity(daemon, "run", "-d", str(tmp_path), "sh", "-c", script) as process:
        running_in(tmp_path, "pid")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (7, b"bye\n")
    assert b"Ctrl-C again" in stderr


def test_a_second_ctrl_c_leaves_the_task(daemon: Daemon, tmp_path: Path) -> None:
    script = "trap 'echo asked >> asked' TERM; echo $$ > pid; while :; do sleep 0.05; done"
    with spawn_levity(daemon, "run", "--grace", "600", "-d", str(tmp_path), "sh", "-c", script) as process:
        running_in(tmp_path, "pid")
        process.send_signal(signal.SIGINT)
        eventually((tmp_path / "asked").exists, "the first to have reached the task")
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    found = ID.search(stderr)
    assert found
    with client_of(daemon.address) as client:
        assert client.query(found[0].decode()).state is State.SIGNALLED
        client.signal(found[0].decode(), grace_s=0)


def test_a_levityd_that_is_gone_for_good(daemon: Daemon, tmp_path: Path) -> None:
    with spawn_levity(daemon, "-t", "3", "run", "-d", str(tmp_path), "sh", "-c", "echo $$ > pid; sleep 600") as process:
        running_in(tmp_path, "pid")
        daemon.kill_all()
        stderr = process.communicate(timeout=30)[1]
    assert process.returncode == 255
    found = ID.search(stderr)
    assert found
    assert stderr.count(b"\n") == 1
    daemon.start()
    with client_of(daemon.address) as client:
        is_running(client, found[0])
        client.signal(found[0].decode())


def is_running(client: Client, task_id: bytes) -> None:
    # It may write before its shim has told that it runs.
    eventually(lambda: client.query(task_id.decode()).state is State.RUNNING, "the task to run")


def test_a_reader_that_leaves_does_not_take_the_task_along(daemon: Daemon, tmp_path: Path) -> None:
    with spawn_levity(
        daemon, "run", "-d", str(tmp_path), "sh", "-c", "echo $$ > pid; while echo y; do :; done"
    ) as process:
        running_in(tmp_path, "pid")
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr is not None
        found = ID.search(process.stderr.read())
    assert found
    with client_of(daemon.address) as client:
        is_running(client, found[0])
        client.signal(found[0].decode())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_run_that_is_ended_says_where_its_task_is(daemon: Daemon, tmp_path: Path, number: int) -> None:
    """As timeout(1) and a CI that gives up do."""
    with spawn_levity(daemon, "run", "-d", str(tmp_path), "sh", "-c", "echo $$ > pid; exec sleep 600") as process:
        running_in(tmp_path, "pid")
        process.send_signal(number)
        stderr = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    found = ID.search(stderr)
    assert found
    with client_of(daemon.address) as client:
        is_running(client, found[0])
        client.signal(found[0].decode())


@pytest.mark.parametrize("command", ["logs -f ID", "run sh -c 'echo first; exec sleep 600'", "logs -f --prefix ID ID2"])
def test_a_reader_that_leaves_is_noticed_though_nothing_is_written(daemon: Daemon, command: str) -> None:
    with client_of(daemon.address) as client:
        ids = [sh(client, "echo first; exec sleep 600") for _ in range(2)]
        line = command.replace("ID2", ids[1]).replace("ID", ids[0])
        base = shlex.join([*levity_command(), "-a", str(daemon.address)])
        # dash(1) has no pipefail; the code of levity goes to a file.
        script = f"{{ {base} {line}; echo $? >&3; }} 3>&2 2>/dev/null | head -n 1"
        done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=30, check=False)
        assert done.stdout.endswith(b"first\n")
        assert done.stderr == b"141\n"
        for record in client.list():
            client.signal(record.id)


# Input


def test_input_of_run_reaches_the_task(shared_daemon: Daemon, tmp_path: Path) -> None:
    data = random.Random(4).randbytes(5_000_000)
    done = run_with(shared_daemon, "-i", "sha256sum", stdin=data)
    assert (done.returncode, done.stdout.split()[0].decode()) == (0, hashlib.sha256(data).hexdigest())
    (tmp_path / "file").write_bytes(data)
    done = run_with(shared_daemon, "--stdin", str(tmp_path / "file"), "sha256sum")
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    done = levity(shared_daemon, "start", "--stdin", str(tmp_path / "file"), "sha256sum")
    with client_of(shared_daemon.address) as client:
        ended(client, done.stdout.decode().strip())
    done = levity(shared_daemon, "logs", done.stdout.decode().strip())
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_task_that_reads_nothing_does_not_hold_run_up(shared_daemon: Daemon) -> None:
    """Its input never ends, and is larger than what may be stored."""
    command = [*levity_command(), "-a", str(shared_daemon.address), "run", "-i", "sh", "-c", "sleep 0.2; exit 6"]
    endless = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    try:
        done = subprocess.run(command, stdin=endless.stdout, capture_output=True, timeout=30, check=False)
    finally:
        assert endless.stdout is not None
        endless.stdout.close()
        endless.wait(10)
    assert (done.returncode, done.stdout) == (6, b"")


def test_without_i_the_task_does_not_see_our_input(shared_daemon: Daemon) -> None:
    assert run_with(shared_daemon, "cat", stdin=b"secret").stdout == b""


# wait and logs


def test_wait(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        three, four, endless = sh(client, "exit 3"), sh(client, "sleep 0.2; exit 4"), sh(client, "exec sleep 600")
        done = levity(shared_daemon, "wait", three)
        assert (done.returncode, done.stdout) == (3, b"")
        done = levity(shared_daemon, "wait", four, three)
        assert done.returncode == 3
        assert done.stdout.decode() == f"{four} Finished 4\n{three} Finished 3\n"
        done = levity(shared_daemon, "wait", "--any", endless, four)
        assert done.returncode == 4
        assert done.stdout.decode() == f"{endless} Running -\n{four} Finished 4\n"
        done = levity(shared_daemon, "wait", "--timeout", "0.1", endless)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (124, b"", 1)
        done = levity(shared_daemon, "wait", "no-such-task")
        assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
        client.signal(endless)
        assert levity(shared_daemon, "wait", endless).returncode == 143


def test_wait_for_a_task_that_levity_failed(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "exec sleep 600")
        daemon.kill(f"shim {task_id}")
        done = levity(daemon, "wait", task_id)
        assert done.returncode == 125
        assert b"monitor lost" in done.stderr


def test_head_ends_a_log_quietly(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = client.start(["seq", "1000000"])
        ended(client, task_id)
    line = shlex.join([*levity_command(), "-a", str(shared_daemon.address), "logs", task_id])
    done = subprocess.run(["sh", "-c", f"{line} | head -1"], capture_output=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == (b"1\n", b"")


def test_dropped_bytes_are_said(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = client.start(["seq", "1000000"], log_cap=1024 * 1024)
        record = ended(client, task_id)
    done = levity(shared_daemon, "logs", task_id)
    found = re.fullmatch(rb"levity: (\d+) bytes of stdout dropped, .*\n", done.stderr)
    assert found
    assert done.returncode == 0
    assert len(done.stdout) + int(found[1]) == record.stdout_bytes
    lines = [json.loads(line) for line in levity(shared_daemon, "logs", "--json", task_id).stdout.splitlines()]
    assert [line["dropped"] for line in lines if "dropped" in line] == [int(found[1])]
    assert "".join(line.get("text", "") for line in lines).encode() == done.stdout


def test_a_log_that_is_shorter_than_it_was_is_a_failure(daemon: Daemon) -> None:
    """Another program cut the file: the client tells how much is missing, and where."""
    with client_of(daemon.address) as client:
        task_id = sh(client, "echo 12345")
        ended(client, task_id)
    os.truncate(daemon.state_dir / "tasks" / task_id / "stdout.0000000000000000.log", 3)
    done = levity(daemon, "logs", task_id)
    assert (done.returncode, done.stdout) == (1, b"123")
    assert b"3 bytes of stdout lost" in done.stderr


def test_lines_with_their_times_are_whole(shared_daemon: Daemon) -> None:
    code = (
        "import os, time\n"
        "for n in range(3):\n"
        "    for part in (b'out', b'-%d' % n, b'\\n'):\n"
        "        os.write(1, part); os.write(2, b'err\\n'); time.sleep(0.01)\n"
    )
    with client_of(shared_daemon.address) as client:
        task_id = client.start([sys.executable, "-I", "-S", "-c", code])
    done = levity(shared_daemon, "logs", "-f", "-t", "--prefix", task_id)
    stamp = rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) " + task_id[:8].encode()
    out = re.findall(rb"^" + stamp + rb" out (out-\d)$", done.stdout, re.MULTILINE)
    assert [text for _time, text in out] == [b"out-0", b"out-1", b"out-2"]
    assert len(re.findall(rb"^" + stamp + rb" err err$", done.stderr, re.MULTILINE)) == 9
    times = [time for time, _text in out]
    assert times == sorted(times)


def test_several_tasks_at_once(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        ids = [sh(client, f"for n in 1 2 3; do echo {name}$n; sleep 0.05; done") for name in "abc"]
    done = levity(shared_daemon, "logs", "-f", "--prefix", *ids)
    lines = done.stdout.decode().splitlines()
    assert sorted(line.split(" out ")[1] for line in lines) == [f"{name}{n}" for name in "abc" for n in (1, 2, 3)]
    for task_id, name in zip(ids, "abc", strict=True):
        assert [line for line in lines if line.startswith(task_id[:8])] == [
            f"{task_id[:8]} out {name}{n}" for n in (1, 2, 3)
        ]


def test_query_says_why_a_task_waits(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", tmp_path], check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        daemon = make_daemon(state_dir=tmp_path / "state")
        daemon.start()
        with client_of(daemon.address) as client:
            task_id = client.start(["seq", "400000"])  # 2.7 MB

            def waits() -> bool:
                return "no space" in str(client.query(task_id).raw["waiting"])

            eventually(waits, "the task to wait", 20)
            done = levity(daemon, "query", task_id)
            assert done.stdout == b"Running\n"
            assert b"no space" in done.stderr
            assert "no space" in json.loads(levity(daemon, "query", "--json", task_id).stdout)["waiting"]
            subprocess.run(["mount", "-o", "remount,size=16m", tmp_path], check=True)
            assert ended(client, task_id).exit_code == 0
            assert client.query(task_id).raw["waiting"] is None
            text = b"".join(chunk.data for chunk in client.logs(task_id))
            assert text == b"".join(b"%d\n" % number for number in range(1, 400_001))
    finally:
        daemon.end()
        # The last of its processes may still be on its way out.
        eventually(lambda: not subprocess.run(["umount", tmp_path], check=False).returncode, "the disk to be unmounted")
