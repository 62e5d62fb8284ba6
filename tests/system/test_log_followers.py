"""Those who read output while it comes: that leave, stop or wait for long, or lose their front-end or shim."""

import collections
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

import pytest

from levity import LevityError, State
from levity.protocol.messages import request_frame
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import client_of, ended, send, sh, texts

MIB = 1024 * 1024


def _threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("address", ["127.0.0.1:0", None], ids=["loopback", "unix"])
def test_followers_that_leave_are_noticed(make_daemon: Callable[..., Daemon], address: str | None) -> None:
    """Though the task writes nothing that would show it."""
    daemon = make_daemon(address).start()
    pid = daemon.pid_of("front-end")
    with client_of(daemon.address) as client:
        task_id = sh(client, "echo one; exec sleep 600")
        eventually(lambda: texts(client.logs(task_id)) == [b"one\n"], "the line")
        before = _threads(pid), _descriptors(pid)
        followers = [client.logs(task_id, follow=True) for _ in range(30)]
        for follower in followers:
            assert next(follower).data == b"one\n"
        assert _threads(pid) >= before[0] + 30
        for follower in followers:
            follower.close()  # type: ignore[attr-defined]
        # One thread more, the one that is told of changes, and its descriptor.
        eventually(lambda: _threads(pid) <= before[0] + 1, "the threads to end", 5)
        eventually(lambda: _descriptors(pid) <= before[1] + 1, "the descriptors to be closed", 5)
        client.signal(task_id)


@pytest.mark.race
def test_many_followers_lose_nothing(daemon: Daemon) -> None:
    code = (
        "import os, time\nfor n in range(3000):\n    os.write(1, b'%d\\n' % n)\n    if n % 10 == 0: time.sleep(0.001)\n"
    )
    expected = b"".join(b"%d\n" % number for number in range(3000))
    with client_of(daemon.address) as client:
        task_id = client.start([sys.executable, "-I", "-S", "-c", code])
        found: list[bytes] = []

        def follow() -> None:
            with client_of(daemon.address) as own:
                found.append(b"".join(texts(own.logs(task_id, follow=True))))

        threads = [threading.Thread(target=follow) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [expected] * 40


def test_silence_is_told_from_death(shared_daemon: Daemon) -> None:
    """A client that would wait no longer than two seconds for a sign of life follows a silent task."""
    with client_of(shared_daemon.address) as client, client_of(shared_daemon.address, 2) as impatient:
        task_id = sh(client, "sleep 4; echo late")
        assert texts(impatient.logs(task_id, follow=True)) == [b"late\n"]


def test_a_removed_directory_ends_the_following(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "exec sleep 600")
        chunks = client.logs(task_id, follow=True)
        remover = threading.Thread(target=shutil.rmtree, args=[daemon.state_dir / "tasks" / task_id])
        eventually(lambda: _threads(daemon.pid_of("front-end")) >= 0, "the follower")
        remover.start()
        with pytest.raises(LevityError, match=r"not stored any more"):
            next(chunks)
        remover.join()


def test_a_stopped_client_delays_no_other(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = client.start(["seq", "3000000"])
        # A client that asks and never reads.
        assert daemon.address is not None
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(daemon.address.removeprefix("unix:"))
        silent.sendall(request_frame(1, "task.logs", {"id": task_id, "follow": True}))
        assert ended(client, task_id).exit_code == 0
        began = time.monotonic()
        client.query(task_id)
        assert time.monotonic() - began < 10
        silent.close()


def test_an_upgrade_of_the_front_end_alone_is_not_noticed(daemon: Daemon) -> None:
    """The front-end is killed while nothing comes, and the follower gets what comes afterwards."""
    with client_of(daemon.address) as client:
        task_id = sh(client, "echo one; read go; echo $go", stdin=True)
        chunks = client.logs(task_id, follow=True)
        assert next(chunks).data == b"one\n"
        daemon.kill("front-end", signal.SIGKILL)
        send(client, task_id, b"two\n")
        assert texts(chunks) == [b"two\n"]


@pytest.mark.parametrize("log_cap", [0, MIB])
def test_a_shim_killed_while_it_writes_leaves_what_it_had_written(daemon: Daemon, log_cap: int) -> None:
    """Every byte is at its place, holes are told, and the end is the end of a read."""
    with client_of(daemon.address) as client:
        for _ in range(4):
            task_id = client.start(["seq", "100000000"], log_cap=log_cap)
            shim = client.query(task_id).shim_pid
            assert shim is not None
            chunks = client.logs(task_id, follow=True)
            size = 0
            while size < 3 * MIB:
                chunk = next(chunks)
                size += len(chunk.data) + chunk.dropped
            os.kill(shim, signal.SIGKILL)  # At once: seq does not wait for anybody.
            collections.deque(chunks, maxlen=0)
            assert client.query(task_id).state is State.INTERNAL_SERVER_ERROR
            found = [(chunk.data, chunk.dropped) for chunk in client.logs(task_id)]
            length = sum(len(data) + dropped for data, dropped in found)
            expected = memoryview(_seq_of(length))
            at = 0
            for data, dropped in found:
                assert expected[at : at + len(data)] == data
                at += len(data) + dropped


def _seq_of(length: int) -> bytes:
    """Return at least so many bytes of what seq(1) writes."""
    parts, size, number = [], 0, 1
    while size < length:
        part = b"".join(b"%d\n" % n for n in range(number, number + 100_000))
        parts.append(part)
        size += len(part)
        number += 100_000
    return b"".join(parts)
