"""Input that a client sends to a task: all of it, once, whatever is killed; and a task that does not read it."""

import hashlib
import io
import os
import random
import threading
import time

import pytest

from levity import State
from levity.errors import InvalidRequest
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import client_of, ended, output, send, sh

MIB = 1024 * 1024


def test_much_input_reaches_the_task_whole(shared_daemon: Daemon) -> None:
    data = random.Random(1).randbytes(20 * MIB)
    with client_of(shared_daemon.address) as client:
        task_id = client.start(["sha256sum"], stdin=True)
        client.write_stdin(task_id, io.BytesIO(data))
        assert ended(client, task_id).exit_code == 0
        assert output(client, task_id)[0].split()[0].decode() == hashlib.sha256(data).hexdigest()
    left = [name for name in os.listdir(shared_daemon.state_dir / "tasks" / task_id) if name.startswith("stdin")]
    assert left == []


@pytest.mark.parametrize("role", ["front-end", "engine", "all"])
def test_input_survives_sigkill(daemon: Daemon, role: str) -> None:
    data = random.Random(2).randbytes(12 * MIB)

    class Source(io.BytesIO):
        kills = 0

        def read1(self, size: int | None = -1, /) -> bytes:
            if self.kills < 4 and self.tell() > self.kills * 2 * MIB:
                self.kills += 1
                daemon.kill_and_revive(role)
            return super().read1(size)

    with client_of(daemon.address) as client:
        task_id = client.start(["sha256sum"], stdin=True)
        source = Source(data)
        client.write_stdin(task_id, source)
        assert source.kills == 4
        assert ended(client, task_id).exit_code == 0
        assert output(client, task_id)[0].split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_the_same_piece_twice_is_stored_once(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = sh(client, "cat; exec sleep 600", stdin=True)
        assert send(client, task_id, b"abc") == {"stored": 3, "closed": False, "over": False}
        assert send(client, task_id, b"abc")["stored"] == 3
        assert send(client, task_id, b"bcdef", offset=1)["stored"] == 6
        assert send(client, task_id, b"", offset=6, end=True)["stored"] == 6
        assert send(client, task_id, b"def", offset=3, end=True)["stored"] == 6
        eventually(lambda: output(client, task_id)[0] == b"abcdef", "the input, once")
        client.signal(task_id)
        ended(client, task_id)
        assert send(client, task_id, b"more", offset=6)["over"]


def test_input_that_cannot_be_stored_is_refused(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = client.start(["sleep", "600"], stdin=True)
        with pytest.raises(InvalidRequest, match="0 bytes of input are stored"):
            send(client, task_id, b"abc", offset=1)
        send(client, task_id, b"abc", end=True)
        with pytest.raises(InvalidRequest, match="ended already"):
            send(client, task_id, b"def", offset=3)
        client.signal(task_id)
        other = sh(client, "exec sleep 600")
        with pytest.raises(InvalidRequest, match="started without"):
            send(client, other, b"abc")
        client.signal(other)


def test_a_task_that_does_not_read_holds_up_only_its_own_sender(daemon: Daemon) -> None:
    with client_of(daemon.address) as client, client_of(daemon.address) as sender:
        task_id = sh(client, "echo here; exec sleep 600", stdin=True)
        done: list[int] = []
        thread = threading.Thread(
            target=lambda: done.append(sender.write_stdin(task_id, os.urandom(30 * MIB), limit_bytes=MIB))
        )
        thread.start()
        path = daemon.state_dir / "tasks" / task_id
        eventually(lambda: sum(file.stat().st_size for file in path.glob("stdin.*.log")) > MIB // 2, "some input")
        eventually(lambda: output(client, task_id)[0] == b"here\n", "the task's output")
        assert client.query(task_id).state is State.RUNNING
        stored = sum(file.stat().st_size for file in path.glob("stdin.*.log"))
        assert stored <= MIB + 256 * 1024
        assert thread.is_alive()
        client.signal(task_id)
        # Once the task is over, the sender does not wait for it any more.
        thread.join(20)
        assert not thread.is_alive()
        assert ended(client, task_id).signal == "SIGTERM"


@pytest.mark.race
def test_room_is_made_as_the_task_reads(daemon: Daemon) -> None:
    """With less room than there is input, all of it arrives nevertheless."""
    data = random.Random(3).randbytes(3 * MIB)
    with client_of(daemon.address) as client:
        task_id = sh(client, "sleep 0.3; exec sha256sum", stdin=True)
        client.write_stdin(task_id, data, limit_bytes=300_000)
        ended(client, task_id)
        assert output(client, task_id)[0].split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_client_that_sends_is_told_when_a_task_stops_reading(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = sh(client, "head -c 3; exec 0<&-; exec sleep 600", stdin=True)
        began = time.monotonic()
        client.write_stdin(task_id, bytes(50 * MIB))
        assert time.monotonic() - began < 30
        assert client.query(task_id).state is State.RUNNING
        assert output(client, task_id)[0] == b"\0\0\0"
        client.signal(task_id)
