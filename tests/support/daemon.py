"""A real levityd for a test, on a state directory of its own. Owns: that directory, and every process it led to."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import psutil
import pytest

from tests.support import processes
from tests.support.deadline import eventually
from tests.support.paths import clean_environment, levityd_command

__all__ = ["LIVE", "Daemon", "daemon", "make_daemon", "shared_daemon", "tcp_daemon", "token_file_of"]

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
_LISTENING = re.compile(r"Listening on (\S+)")

# Daemons that run now: the race tests' tormentor picks among them.
LIVE: "set[Daemon]" = set()


def token_file_of(address: str | None) -> Path | None:
    """Return the token for a daemon that runs at this address; None where none is needed."""
    if address is None or address.startswith("unix:"):
        return None
    return next((one.token_file for one in LIVE if one.address == address), None)


@cache
def scratch_place() -> str:
    """Return where daemons keep their state: in memory if there is room, for a slow disk only makes tests slow."""
    memory = "/dev/shm"
    try:
        found = os.statvfs(memory)
    except OSError:
        return "/tmp"
    # Some tests execute files of their own.
    is_usable = os.access(memory, os.W_OK) and not found.f_flag & os.ST_NOEXEC
    roomy = found.f_bavail * found.f_frsize > 4 * 2**30 and is_usable
    return memory if roomy and not os.environ.get("LEVITY_TESTS_ON_DISK") else "/tmp"


class Daemon:
    """levityd as a subprocess. `address` is None for the default unix socket, or as on the command line.

    After `start`, `address` is what it says it listens on; `restart` uses that very address again.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        command: Sequence[str] | None = None,
        env: dict[str, str] | None = None,
        state_dir: Path | None = None,
    ) -> None:
        # A unix socket's path has 107 bytes at most, and pytest's own directories are deep.
        self._base = Path(tempfile.mkdtemp(prefix="levityd-", dir=scratch_place()))
        self.state_dir = state_dir or self._base / "state"
        self.address: str | None = address
        self.mark = uuid.uuid4().hex
        self._command = list(command or levityd_command())
        self._arguments = [] if address is None else [address]
        self._environment = {**clean_environment(), **(env or {}), processes.MARK: self.mark}
        if interval := os.environ.get("LEVITY_SWITCH_INTERVAL"):
            self._environment["LEVITY_SWITCH_INTERVAL"] = interval
        self._stderr_path = self._base / "stderr"
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else f"pid {self._process.pid}"
        return f"<Daemon {state} at {self.address} on {self.state_dir}>"

    @property
    def pid(self) -> int:
        """The arbiter's pid."""
        assert self._process is not None, "levityd is not running"
        return self._process.pid

    @property
    def token_file(self) -> Path:
        """Where the token is by which clients over TCP are known."""
        return self.state_dir / "token"

    def start(self) -> "Daemon":
        """Start levityd and return once it listens; AssertionError with its stderr when it ends instead, or is late."""
        assert self._process is None, "levityd is running already"
        seen = len(self.stderr_text())
        with self._stderr_path.open("ab") as stderr:
            self._process = subprocess.Popen(
                [*self._command, "--state-dir", str(self.state_dir), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=self._environment,
                cwd="/",
            )
        LIVE.add(self)
        try:
            listening = eventually(lambda: self._listens(seen), "levityd to listen", START_TIMEOUT_S)
        except BaseException:
            self.end()
            raise
        self.address = listening
        self._arguments = [listening] if self._arguments else []
        return self

    def _listens(self, seen: int) -> str:
        assert self._process is not None
        ended = self._process.poll()
        text = self.stderr_text()[seen:]
        if match := _LISTENING.search(text):
            return match[1]
        if ended is not None:
            pytest.fail(f"levityd exited with {ended} instead of listening; its stderr:\n{text}")
        return ""

    def stderr_text(self) -> str:
        """Return what levityd wrote on stderr so far, over all its starts."""
        try:
            return self._stderr_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def pids(self) -> dict[str, list[int]]:
        """Return the living processes by role: "arbiter", "front-end", "engine", "zygote", "shim ID"."""
        return processes.roles(self.mark)

    def pid_of(self, role: str) -> int:
        """Return the pid of the one process that has this role, once there is exactly one."""
        return eventually(lambda: self._only(role), f"one {role}")

    def _only(self, role: str) -> int:
        pids = self.pids().get(role, [])
        assert len(pids) == 1, f"{role}: {pids} in {self!r}"
        return pids[0]

    def kill(self, role: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to the process with this role and return its pid; wait for the end where it is SIGKILL."""
        pid = self.pid_of(role)
        os.kill(pid, number)
        if number == signal.SIGKILL:
            if self._process is not None and pid == self._process.pid:
                self._wait(STOP_TIMEOUT_S)
            else:
                eventually(lambda: not _lives(pid), f"the end of the killed {role}, {pid}")
        return pid

    def kill_all(self) -> None:
        """SIGKILL arbiter, front-end, engine and zygote at once, and wait until they are gone. Shims and tasks stay."""
        pids = [pid for role, pids in self.pids().items() if not role.startswith("shim ") for pid in pids]
        for pid in pids:
            _kill(pid)
        if self._process is not None:
            self._wait(STOP_TIMEOUT_S)
        eventually(lambda: not any(_lives(pid) for pid in pids), f"the end of the killed {pids}")

    def kill_and_revive(self, role: str) -> None:
        """SIGKILL the process of this role, or with "all" all but shims; start again what levityd itself does not."""
        if role == "all":
            self.kill_all()
        else:
            self.kill(role)
        if role in ("all", "arbiter"):
            self.start()

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End levityd as an operator does and return its exit code; tasks go on."""
        os.kill(self.pid, number)
        return self._wait(timeout_s)

    def _wait(self, timeout_s: float) -> int:
        assert self._process is not None
        code = self._process.wait(timeout_s)
        self._process = None
        LIVE.discard(self)
        return code

    def restart(self) -> "Daemon":
        """Start levityd again on the same state directory and address, after an orderly stop if it runs."""
        if self._process is not None:
            self.stop()
        return self.start()

    def end(self) -> None:
        """End levityd, its shims and their tasks, whatever state they are in, and remove what they wrote."""
        LIVE.discard(self)
        eventually(self._kill_everything, f"the end of everything that {self!r} started")
        if self._process is not None:
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None
        shutil.rmtree(self._base, ignore_errors=True)

    def _kill_everything(self) -> bool:
        """SIGKILL every process, tasks before their shims; return whether there was none."""
        found = {process.pid: process for process in processes.marked(self.mark)}
        if not found:
            return True
        # A descendant that is not marked is of a task that has changed its environment.
        ours = {process.pid for process in found.values() if processes.title(process).startswith("levityd:")}
        for pid in [*(processes.descendants(found) | set(found)) - ours, *ours]:
            _kill(pid)
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # It was faster.


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def make_daemon() -> Iterator[Callable[..., Daemon]]:
    """Make daemons (not started), with the arguments of Daemon; all are ended with the test."""
    made: list[Daemon] = []

    def make(address: str | None = None, **options: object) -> Daemon:
        made.append(Daemon(address, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A levityd of this test's own, on the default unix socket."""
    one = Daemon()
    try:
        yield one.start()
    finally:
        one.end()


@pytest.fixture(scope="module")
def shared_daemon() -> Iterator[Daemon]:
    """A levityd for the tests of a module that do it no harm, on the default unix socket."""
    one = Daemon()
    try:
        yield one.start()
    finally:
        one.end()


@pytest.fixture(scope="module")
def tcp_daemon() -> Iterator[Daemon]:
    """As shared_daemon, but on loopback."""
    one = Daemon("127.0.0.1:0")
    try:
        yield one.start()
    finally:
        one.end()
