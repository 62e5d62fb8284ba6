"""See tasks of an older levity go on under this one: `upgrade.py [COMMIT]`. Runs in: `make upgrade`.

Owns: a scratch directory, with the older levity's code from git, and all processes that it starts; nothing of that is
left at the end. Two upgrades are tried. Between two levityd: everything of the older one but its shims is killed, and
this levityd takes the state directory. Under a running levityd: its code is replaced on the disk by this one, and its
zygote and then its engine are killed. Exit code 1: something was not as promised.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

ROOT = Path(__file__).resolve().parents[1]
# The last commit whose shims have no verbs on their control FIFO.
DEFAULT_COMMIT = "e66b08c"
MARK = "UPGRADE_OF_LEVITY"
PATIENCE_S = 20.0
CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from {module} import main; sys.exit(main())"
TICKS = 'n=0; until [ -e "$1" ]; do n=$((n+1)); echo "tick $n"; sleep 0.02; done; echo "$n" >&2; exit 7'

Value = TypeVar("Value")


class Scene:
    """One state directory, and the levityd on it; `code` is whose code is run."""

    def __init__(self, scratch: Path, name: str) -> None:
        self.path = scratch / name
        self.path.mkdir()
        self.state_dir = self.path / "state"
        self.address = f"unix:{self.state_dir}/levity.sock"
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("LEVITY_")}
        self._environment |= {MARK: str(scratch), "LEVITY_ADDR": self.address}

    def command(self, code: Path, module: str, *words: str) -> list[str]:
        return [sys.executable, "-I", "-c", CODE.format(module=module), str(code), *words]

    def start_daemon(self, code: Path) -> None:
        words = self.command(code, "supervisor.arbiter.main", "--state-dir", str(self.state_dir))
        with (self.path / "stderr").open("ab") as stderr:
            subprocess.Popen(words, stderr=stderr, stdin=subprocess.DEVNULL, env=self._environment, cwd="/")
        until(lambda: self.ask(code, "info").returncode == 0, "levityd to answer")

    def ask(self, code: Path, *words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        command = self.command(code, "levity.cli.main", *words)
        return subprocess.run(command, input=stdin, capture_output=True, env=self._environment, timeout=60, check=False)

    def start(self, code: Path, *words: str, stdin: bytes = b"") -> str:
        done = self.ask(code, "start", *words, stdin=stdin)
        check(done.returncode == 0, f"start failed: {done.stderr!r}")
        return done.stdout.decode().strip()

    def query(self, task_id: str) -> dict[str, Any]:
        done = self.ask(ROOT, "query", "--json", task_id)
        check(done.returncode == 0, f"{task_id} does not answer: {done.stderr!r}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def processes(self, *titles: str) -> list[psutil.Process]:
        """Return levityd's processes on this directory whose titles begin so."""
        found = []
        for process in psutil.process_iter():
            try:
                # A shim inherits the environment of the arbiter; a task of its own has no such title.
                is_ours = process.environ().get("LEVITY_ADDR") == self.address
                if is_ours and " ".join(process.cmdline()).strip().startswith(titles):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self, *roles: str) -> None:
        """SIGKILL the processes of these roles, and wait until they are gone."""
        processes = self.processes(*(f"levityd: {role}" for role in roles))
        check(bool(processes), f"no {roles} to kill")
        for process in processes:
            process.kill()
        # The arbiter's end ends those that it has begun to replace.
        until(lambda: not any(is_alive(process) for process in processes), "their end")


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def check(is_true: bool, promise: str) -> None:
    if not is_true:
        raise SystemExit(f"NOT AS PROMISED: {promise}")


def until(look: Callable[[], Value], what: str) -> Value:
    """Return what `look` returns once that is true."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (found := look()):
        check(time.monotonic() < give_up_at, f"{what} was waited for in vain")
        time.sleep(0.02)
    return found


def between_two(old: Path, scratch: Path) -> None:
    """Tasks that run while the older levityd dies and this one begins."""
    scene = Scene(scratch, "between")
    scene.start_daemon(old)
    enough = scene.path / "enough"
    over = scene.start(old, "--", "sh", "-c", "echo over; exit 3")
    ticking = scene.start(old, "--", "sh", "-c", TICKS, "sh", str(enough))
    polite = scene.start(old, "--", "sleep", "600")
    stubborn = scene.start(
        old, "--grace", "1", "--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    )
    (scene.path / "input").write_bytes(b"x" * 300_000)
    feeding = f"until [ -e {enough} ]; do sleep 0.02; done; wc -c"
    fed = scene.start(old, "--stdin", str(scene.path / "input"), "--", "sh", "-c", feeding)
    until(lambda: scene.ask(old, "logs", stubborn).stdout == b"ready\n", "the trap")
    before = {task_id: scene.query(task_id) for task_id in (over, ticking, polite, stubborn, fed)}
    scene.kill("arbiter", "front-end", "engine", "zygote")
    scene.start_daemon(ROOT)

    for task_id, record in before.items():
        now = scene.query(task_id)
        same = ("id", "argv", "cwd", "env", "owner", "pid", "shim_pid", "started_at", "accepted_at", "grace_s", "stdin")
        check(all(now[key] == record[key] for key in same), f"{task_id} is another task: {now} after {record}")
    check(scene.query(over)["exit_code"] == 3, "an exit code is lost")
    check(scene.query(ticking)["state"] == "Running", "a running task is not adopted")
    follower = subprocess.Popen(
        scene.command(ROOT, "levity.cli.main", "logs", "-f", ticking),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=scene._environment,
    )
    for _round in range(2):
        scene.kill("engine", "front-end", "zygote")
        until(lambda: scene.ask(ROOT, "info").returncode == 0, "levityd to be back")
    check(scene.ask(ROOT, "signal", polite).returncode == 0, "signal failed")
    check(scene.ask(ROOT, "signal", stubborn).returncode == 0, "signal failed")
    ends = {polite: ("Finished", 143, "SIGTERM"), stubborn: ("BrutallyKilled", 137, "SIGKILL")}
    for task_id, end in ends.items():
        scene.ask(ROOT, "wait", task_id)
        record = scene.query(task_id)
        check((record["state"], record["exit_code"], record["signal"]) == end, f"{record} instead of {end}")
    enough.touch()
    check(scene.ask(ROOT, "wait", ticking).returncode == 7, "the exit code of a wait")
    check(scene.ask(ROOT, "wait", fed).returncode == 0, "the exit code of a task with input")
    stdout, stderr = follower.communicate(timeout=60)
    count = int(stderr)
    check(stdout == b"".join(b"tick %d\n" % n for n in range(1, count + 1)), "a follower missed something")
    check(scene.ask(ROOT, "logs", fed).stdout.strip() == b"300000", "input is lost")
    print(f"between two levityd: 5 tasks adopted, {count} lines followed through two kills of engine and front-end")
    scene.kill("arbiter", "front-end", "engine", "zygote")


def under_a_running_one(old: Path, scratch: Path) -> None:
    """Tasks of an older levityd whose code is replaced on the disk while it runs."""
    scene = Scene(scratch, "under")
    code = scene.path / "code"
    shutil.copytree(old, code)
    scene.start_daemon(code)
    first = scene.start(code, "--", "sleep", "600")
    for package in ("levity", "supervisor"):
        shutil.rmtree(code / package)
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    # The older engine, still in memory, boots a zygote of this levity now, whose shims it starts and asks.
    scene.kill("zygote")
    until(lambda: scene.processes("levityd: zygote"), "a zygote")
    second = scene.start(code, "--", "sleep", "600")
    missing = scene.ask(code, "start", "--", "/nowhere/at-all")
    check(missing.returncode == 127, f"a missing command is told as {missing.stderr!r}")
    check(scene.ask(code, "run", "--", "sh", "-c", "echo out; exit 9").stdout == b"out\n", "a run")
    for task_id in (first, second):
        check(scene.ask(code, "signal", task_id).returncode == 0, "signal failed")
        check(scene.ask(code, "wait", task_id).returncode == 143, f"{task_id} did not end by SIGTERM")
    print("under a running levityd: its engine starts, signals and sees the end of tasks whose shims are newer")
    scene.kill("arbiter", "front-end", "engine", "zygote")


def end_all(scratch: Path) -> None:
    """Kill all that came of this."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(scratch):
                process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue


def main() -> int:
    """Try both upgrades."""
    commit = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_COMMIT
    scratch = Path(tempfile.mkdtemp(prefix="levity-upgrade-"))
    try:
        old = scratch / "old"
        old.mkdir()
        archive = subprocess.run(["git", "-C", ROOT, "archive", commit], capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", old], input=archive.stdout, check=True)
        between_two(old, scratch)
        under_a_running_one(old, scratch)
    finally:
        end_all(scratch)
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
