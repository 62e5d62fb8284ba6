"""A zygote alone: no engine, no daemon. The test plays the engine. Owns: the zygote and what it forked."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

import psutil

from supervisor.hostos.locks import lock_holder
from supervisor.shim.termination import DRAIN_S
from supervisor.spool.commands import COMMANDS_VERSION, SIGNAL, encode_command
from supervisor.spool.files import write_record
from supervisor.spool.layout import CONTROL, ENGINE_SOCKET, EXIT, LOCK, SHIM, SPEC, STDIN, TASKS, WATCH_BYTE
from supervisor.spool.records import JsonObject
from supervisor.spool.start_failure import StartFailure
from supervisor.spool.zygote_messages import PACKET_LIMIT, VERBS, Gone, fork_packet, parse_gone
from tests.support.deadline import eventually
from tests.support.paths import ROOT, clean_environment
from tests.support.processes import title
from tests.support.spool import fetch, joined, opened

__all__ = ["Zygote"]

TIMEOUT_S = 20.0
_CODE = "import sys; sys.path[:0] = [{root!r}]; {prelude}; "
_CODE += "from supervisor.shim.zygote import main; main({drain_s}, verbs={verbs})"


class Zygote:
    """A zygote in its own state directory. `prelude` is Python that it runs first.

    `verbs` is the version of messages that it is told its engine understands.
    """

    def __init__(
        self,
        directory: Path,
        *,
        drain_s: float = DRAIN_S,
        prelude: str = "pass",
        env: Mapping[str, str] | None = None,
        listens: bool = True,
        umask: int = 0o077,
        verbs: int = VERBS,
    ) -> None:
        self.directory = directory
        self._gone: dict[str, list[Gone]] = {}
        (directory / TASKS).mkdir(exist_ok=True)
        self.hints = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.hints.setblocking(False)
        if listens:
            self.hints.bind(os.path.relpath(directory / ENGINE_SOCKET))
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = _CODE.format(root=str(ROOT), prelude=prelude, drain_s=drain_s, verbs=verbs) + " " * 64
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                stdin=theirs.fileno(),
                cwd=directory,
                env={**clean_environment(), **(env or {})},
                umask=umask,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the zygote and every shim that still runs; the tasks die with them."""
        self._socket.close()
        self.process.wait(TIMEOUT_S)
        for process in self._shims():
            process.kill()
        eventually(lambda: not self._shims(), "every shim to be gone")
        self.hints.close()

    def _shims(self) -> list[psutil.Process]:
        found = []
        for pid in psutil.pids():
            try:
                if os.readlink(f"/proc/{pid}/cwd") == str(self.directory):
                    found.append(psutil.Process(pid))
            except (OSError, psutil.Error):
                continue
        return [process for process in found if title(process).startswith("levityd: ")]

    # Asking

    def prepare(self, argv: Iterable[str], **spec: object) -> str:
        """Make a task's directory, as the engine does, and return the id."""
        task_id = str(uuid.uuid4())
        self.path(task_id).mkdir()
        record: JsonObject = {"id": task_id, "argv": list(argv), "cwd": None, "env": {}, "grace_s": 5.0} | spec
        directory_fd = os.open(self.path(task_id), os.O_RDONLY)
        try:
            write_record(directory_fd, SPEC, record, durable=False)
            if record.get("stdin"):
                os.mkfifo(STDIN, 0o600, dir_fd=directory_fd)
        finally:
            os.close(directory_fd)
        return task_id

    def ask(self, task_id: str) -> None:
        """Ask for a shim for this task."""
        self.send(fork_packet(task_id))

    def send(self, packet: bytes) -> None:
        """Send a packet, whatever it is."""
        self._socket.settimeout(TIMEOUT_S)
        self._socket.send(packet)

    def start(self, argv: Iterable[str], **spec: object) -> str:
        """Start a task and return its id once its command is executed."""
        task_id = self.prepare(argv, **spec)
        self.ask(task_id)
        self.facts(task_id)
        return task_id

    def sh(self, script: str, **spec: object) -> str:
        """Start a shell script."""
        return self.start(["/bin/sh", "-c", script], **spec)

    def signal(self, task_id: str, grace_s: float | None = None) -> None:
        """Have the shim ask its task to quit."""
        if grace_s is None:
            self.command(task_id, SIGNAL)
        else:
            self.command(task_id, SIGNAL, grace_s=grace_s)

    def command(self, task_id: str, verb: str, version: int = COMMANDS_VERSION, **values: object) -> None:
        """Send a command to the shim, in the form of a version."""
        line = encode_command(version, verb, **values)
        assert line is not None
        self.write_control(task_id, line)

    def write_control(self, task_id: str, data: bytes) -> None:
        """Write bytes to the task's control FIFO, whatever they are."""
        fd = os.open(self.path(task_id) / CONTROL, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    # Looking

    def path(self, task_id: str) -> Path:
        """Return the task's directory."""
        return self.directory / TASKS / task_id

    def record(self, task_id: str, name: str) -> JsonObject | None:
        """Return a record of a task, None if it is not there."""
        try:
            return dict(json.loads((self.path(task_id) / name).read_bytes()))
        except FileNotFoundError:
            return None

    def facts(self, task_id: str) -> JsonObject:
        """Return what shim.json or exit.json says once the command is executed."""

        def look() -> JsonObject | None:
            facts = self.record(task_id, EXIT) or self.record(task_id, SHIM)
            return facts if facts and "task_pid" in facts else None

        found = eventually(look, f"the start of {task_id}", TIMEOUT_S)
        assert found is not None
        return found

    def wait_for_hint(self, task_id: str) -> None:
        """Return once a hint of this task has come; others that came before it are dropped."""

        def look() -> bool:
            try:
                return self.hints.recv(64) == task_id.encode()
            except BlockingIOError:
                return False

        eventually(look, f"a hint of {task_id}", TIMEOUT_S)

    def shim(self, task_id: str, byte: int = WATCH_BYTE) -> int:
        """Return the pid of the process that holds a byte of the task's lock, 0 if none does."""
        fd = os.open(self.path(task_id) / LOCK, os.O_RDWR)
        try:
            return lock_holder(fd, byte)
        finally:
            os.close(fd)

    def packet(self, timeout_s: float = TIMEOUT_S) -> bytes:
        """Return the next packet from the zygote."""
        self._socket.settimeout(timeout_s)
        if not (packet := self._socket.recv(PACKET_LIMIT)):
            raise ConnectionError("the zygote is gone")
        return packet

    def gone(self, task_id: str, timeout_s: float = TIMEOUT_S) -> Gone:
        """Return how a shim of this task has left, once it has."""
        while not self._gone.get(task_id):
            gone = parse_gone(self.packet(timeout_s))
            assert gone is not None
            self._gone.setdefault(gone.id, []).append(gone)
        return self._gone[task_id].pop(0)

    def status(self, task_id: str, timeout_s: float = TIMEOUT_S) -> int:
        """Return the exit status with which a shim of this task has left, once it has."""
        return self.gone(task_id, timeout_s).status

    def failure(self, task_id: str) -> StartFailure:
        """Return why a task did not run, once its shim has said so and left."""
        gone = self.gone(task_id)
        assert gone.status == 1, gone
        assert gone.failure is not None
        return gone.failure

    def exit(self, task_id: str) -> JsonObject:
        """Return the exit record once the shim has left."""
        assert self.status(task_id) == 0, self.crash_log()
        record = self.record(task_id, EXIT)
        assert record is not None
        return record

    def run(self, argv: Iterable[str], **spec: object) -> JsonObject:
        """Run a task and return its exit record, with its id."""
        task_id = self.prepare(argv, **spec)
        self.ask(task_id)
        return {"id": task_id} | self.exit(task_id)

    def crash_log(self) -> str:
        """Return what shims that crashed left behind."""
        path = self.directory / "shim-crash.log"
        return path.read_text() if path.exists() else ""

    def output(self, task_id: str) -> tuple[bytes, bytes]:
        """Return the output of a task that is over, put together from the reader's extents."""
        with opened(self.path(task_id)) as reader:
            parts, told = fetch(reader.pieces(1 << 16))
        assert told == []
        return joined(parts, 1), joined(parts, 2)

    def kill_shim(self, task_id: str) -> None:
        """SIGKILL the task's shim and wait until it has left."""
        os.kill(self.shim(task_id), signal.SIGKILL)
        assert self.status(task_id) == -signal.SIGKILL
