"""See levity keep its promise: a task goes on while levityd's engine is killed. Runs in: `make demo`.

Owns: a scratch directory, the levityd that works there, and every process of both; none of it is left at the end, also
after a failure or Ctrl-C. Each command is shown as one would type it. Exit code 1: levity broke its promise.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import psutil

BIN = Path(__file__).resolve().parents[1] / "bin"
# Marks the environment of every process of this demo, so that it can end them all.
MARK = "DEMO_OF_LEVITY"
PATIENCE_S = 20.0

# It counts until the file `enough` is there: however slow the machine, it is running when the engine is killed.
TASK = 'n=0; until [ -e enough ]; do n=$((n+1)); echo "tick $n"; sleep 0.1; done; echo "$n ticks" >&2; exit 7'

Value = TypeVar("Value")


class BrokenPromiseError(Exception):
    """Something is not as levity promises."""


class Demo:
    """The scratch directory and the levityd on it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.mark = uuid.uuid4().hex
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("LEVITY_")}
        self._environment[MARK] = self.mark
        self._daemon: subprocess.Popen[bytes] | None = None

    def start_daemon(self) -> None:
        """Start levityd on a free port and have the client commands find it."""
        typed(f"export PATH={shlex.quote(str(BIN))}:$PATH")
        # Where levityd keeps its state, and the client finds its token.
        self._environment["LEVITY_STATE_DIR"] = str(self.scratch / "state")
        typed(f"export LEVITY_STATE_DIR={self._environment['LEVITY_STATE_DIR']}")
        words = ["levityd", "127.0.0.1:0"]
        typed(f"{shlex.join(words)} &")
        with (self.scratch / "stderr").open("wb") as stderr:
            self._daemon = subprocess.Popen([BIN / words[0], *words[1:]], stderr=stderr, env=self._environment)
        greeting = until(self._greeting, "levityd to listen")
        print(greeting)
        address = greeting.rpartition(" ")[2]
        typed(f"export LEVITY_ADDR={address}")
        self._environment["LEVITY_ADDR"] = address

    def _greeting(self) -> str:
        assert self._daemon is not None
        said = (self.scratch / "stderr").read_text()
        if self._daemon.poll() is not None:
            raise BrokenPromiseError(f"levityd ended instead of listening: {said}")
        return said.strip() if said.endswith("\n") else ""

    def levity(self, *words: str) -> str:
        """Show and run a client command; return what it printed on stdout."""
        typed(shlex.join(["levity", *words]))
        done = self.ask(*words)
        print(indented(done.stdout), end="")
        print(indented(done.stderr, "  (stderr) "), end="", flush=True)
        return done.stdout

    def ask(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a client command without showing it."""
        done = subprocess.run(
            [BIN / "levity", *words], env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise BrokenPromiseError(f"levity {words[0]} exited with {done.returncode}: {done.stderr}")
        return done

    def processes(self) -> list[psutil.Process]:
        """Return every living process of this demo but this one."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def pid_of(self, role: str) -> int:
        """Return the pid of the process that ps shows as `levityd: ROLE`; 0 while there is none."""
        for process in self.processes():
            try:
                if process.cmdline()[:1] == [f"levityd: {role}"]:
                    return process.pid
            except psutil.Error:
                continue
        return 0

    def stop_daemon(self) -> None:
        """Stop levityd as an operator does, and check that it says good-bye."""
        assert self._daemon is not None
        typed(f"kill {self._daemon.pid}")
        self._daemon.terminate()
        code = self._daemon.wait(PATIENCE_S)
        farewell = (self.scratch / "stderr").read_text().splitlines()[-1]
        print(farewell)
        check(code == 0 and "no task is left" in farewell, f"levityd exited with {code}")
        check(not self.processes(), f"left behind: {self.processes()}")

    def clean_up(self) -> None:
        """End every process that is left, and remove the files."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        give_up_at = time.monotonic() + PATIENCE_S
        while (left := self.processes()) and time.monotonic() < give_up_at:
            for process in left:
                kill(process)
            psutil.wait_procs(left, timeout=0.5)
        if self._daemon is not None:
            self._daemon.wait(PATIENCE_S)
        shutil.rmtree(self.scratch, ignore_errors=True)


def kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass  # It ended first.


def typed(line: str) -> None:
    print(f"\n$ {line}", flush=True)


def indented(text: str, margin: str = "  ") -> str:
    lines = text.splitlines()
    shown = lines if len(lines) <= 8 else [*lines[:3], f"... ({len(lines) - 6} more lines)", *lines[-3:]]
    return "".join(f"{margin}{line}\n" for line in shown)


def say(line: str) -> None:
    print(f"\n# {line}", flush=True)


def check(truth: bool, otherwise: str) -> None:
    if not truth:
        raise BrokenPromiseError(otherwise)


def until(condition: Callable[[], Value], what: str) -> Value:
    """Return the first true value of `condition()`."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        check(time.monotonic() < give_up_at, f"waited {PATIENCE_S:g} s in vain for {what}")
        time.sleep(0.02)
    return value


def ticks(count: int) -> str:
    return "".join(f"tick {number}\n" for number in range(1, count + 1))


def show(demo: Demo) -> None:
    """Run through the demonstration; BrokenPromiseError at the first thing that is wrong."""
    say("A levityd on a scratch directory, and a task: it counts, and once told that it is enough exits with 7.")
    demo.start_daemon()
    task = demo.levity("start", "-d", str(demo.scratch), "--", "sh", "-c", TASK).strip()

    def output() -> str:
        return demo.ask("logs", task).stdout

    until(lambda: output().count("\n") >= 3, "the task's first lines")
    demo.levity("query", task)
    seen = demo.levity("logs", task)
    kill_engine(demo, task)

    say("And the task? The same process, and it has gone on counting:")
    until(lambda: output().count("\n") >= seen.count("\n") + 5, "the task to go on")
    demo.levity("logs", task)
    finish(demo, task)
    say("Stop levityd; nothing is left behind.")
    demo.stop_daemon()


def kill_engine(demo: Demo, task: str) -> None:
    engine = until(lambda: demo.pid_of("engine"), "the engine")
    pid = task_pid(demo, task)
    say("Now kill the engine, the part of levityd that knows the tasks, and ask at once.")
    typed(f"kill -KILL {engine}    # ps shows it as `levityd: engine`")
    os.kill(engine, signal.SIGKILL)
    began = time.monotonic()
    state = demo.levity("query", task)
    say(f"Answered after {time.monotonic() - began:.2f} s, by a new engine (process {demo.pid_of('engine')}).")
    check(state == "Running\n", f"the task is {state!r}, not Running")
    check(demo.pid_of("engine") not in (0, engine), "no new engine is there")
    check(task_pid(demo, task) == pid and psutil.pid_exists(pid), "the task is not the process that it was")


def task_pid(demo: Demo, task: str) -> int:
    return int(json.loads(demo.ask("query", "--json", task).stdout)["pid"])


def finish(demo: Demo, task: str) -> None:
    say("It is enough. The exit code and every byte of the output are right:")
    typed(f"touch {demo.scratch}/enough")
    (demo.scratch / "enough").touch()
    until(lambda: demo.ask("query", task).stdout.startswith("Finished"), "the task to finish")
    check(demo.levity("query", task) == "Finished\n7\n", "the exit code is not 7")
    demo.levity("logs", task)
    logs = demo.ask("logs", task)
    count = len(logs.stdout.splitlines())
    check(logs.stdout == ticks(count), "the output has a gap or a repeat")
    check(logs.stderr == f"{count} ticks\n", "stdout is not what the task counted")


def stop(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo and return its exit code."""
    signal.signal(signal.SIGTERM, stop)
    began = time.monotonic()
    demo = Demo(Path(tempfile.mkdtemp(prefix="levity-demo-")))
    try:
        show(demo)
    except (BrokenPromiseError, subprocess.SubprocessError, OSError, psutil.Error) as error:
        print(f"\ndemo: FAILED: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr, flush=True)
        return 130
    finally:
        demo.clean_up()
    print(f"\ndemo: all as promised, in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
