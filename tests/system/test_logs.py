"""Output read back through a real levityd: all of it, in order, from anywhere, while it comes and afterwards."""

import collections
import hashlib
import itertools
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from levity import Client, LogChunk, State
from levity.errors import IncompleteLog
from levity.operations.log_params import Moment
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.noise import Digests, noise, noise_command
from tests.support.tasks import client_of, ended, send, sh, texts

MIB = 1024 * 1024
# Groups of 1/16 of it: much noise makes several, and loses none of them.
SMALL_CAP = 64 * MIB


def digests(chunks: Iterable[LogChunk]) -> Digests:
    found = {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}
    for chunk in chunks:
        assert not chunk.dropped
        found[chunk.stream].update(chunk.data)
    return {name: digest.hexdigest() for name, digest in found.items()}


def index_files(daemon: Daemon, task_id: str) -> int:
    return len(list((daemon.state_dir / "tasks" / task_id).glob("index.*")))


def test_random_bytes_on_both_streams_replayed_and_followed(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = client.start(noise_command(1, 12 * MIB), log_cap=SMALL_CAP)
        assert digests(client.logs(task_id, follow=True)) == noise(1, 12 * MIB)
        assert client.query(task_id).state is State.FINISHED
        assert index_files(daemon, task_id) > 2
        assert digests(client.logs(task_id)) == noise(1, 12 * MIB)
        # Following what is over is reading it.
        assert digests(client.logs(task_id, follow=True)) == noise(1, 12 * MIB)
        assert digests(client.logs(task_id, exact_times=True)) == noise(1, 12 * MIB)


@pytest.mark.parametrize("role", ["engine", "front-end", "arbiter", "all"])
def test_following_across_sigkill(daemon: Daemon, role: str) -> None:
    """Each is killed several times while the task writes, and the follower neither loses nor repeats a byte."""
    with client_of(daemon.address) as client:
        task_id = client.start(noise_command(2, 2 * MIB, 0.001), log_cap=SMALL_CAP)
        chunks = client.logs(task_id, follow=True)
        got: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        size, kill_at, kills = 0, 200_000, 0
        for chunk in chunks:
            got[chunk.stream].append(chunk.data)
            size += len(chunk.data)
            if size >= kill_at and kills < 4:
                kill_at, kills = kill_at + 700_000, kills + 1
                daemon.kill_and_revive(role)
        assert kills == 4
        found = {name: hashlib.sha256(b"".join(parts)).hexdigest() for name, parts in got.items()}
        assert found == noise(2, 2 * MIB)
        assert client.query(task_id).exit_code == 0


@pytest.mark.race
def test_a_line_is_delivered_while_the_task_goes_on(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = sh(client, "while read line; do echo got $line; done", stdin=True)
        chunks = client.logs(task_id, follow=True)
        for number in range(10):
            send(client, task_id, b"%d\n" % number, offset=2 * number)
            assert next(chunks).data == b"got %d\n" % number
        client.signal(task_id)
        assert list(chunks) == []


@pytest.mark.race
def test_following_ends_only_when_the_task_is_over(shared_daemon: Daemon, tmp_path: Path) -> None:
    """The leader exits, and a child still writes."""
    with client_of(shared_daemon.address) as client:
        child = "trap '' TERM; touch up; while [ ! -e said ]; do sleep 0.01; done; sleep 0.5; echo last"
        script = f'sh -c "{child}" & while [ ! -e up ]; do sleep 0.01; done; echo first; touch said; exit 3'
        task_id = sh(client, script, grace_s=20, cwd=str(tmp_path))
        text = b"".join(chunk.data for chunk in client.logs(task_id, follow=True))
        assert text == b"first\nlast\n"
        assert client.query(task_id).exit_code == 3


def test_two_followers_are_independent(shared_daemon: Daemon) -> None:
    """One is stopped, and the other and the task go on."""
    with client_of(shared_daemon.address) as client:
        task_id = client.start(["seq", "2000000"])  # 15 MB: more than sockets hold
        slow = client.logs(task_id, follow=True)
        next(slow)
        fast = b"".join(chunk.data for chunk in client.logs(task_id, follow=True))
        assert hashlib.sha256(fast).hexdigest() == hashlib.sha256(_seq(2_000_000)).hexdigest()
        assert ended(client, task_id).exit_code == 0
        slow.close()  # type: ignore[attr-defined]


def _seq(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(1, count + 1))


def test_a_gigabyte_without_a_line_end(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = client.start(["head", "-c", "1000000000", "/dev/zero"], log_cap=0)
        total = 0
        for chunk in client.logs(task_id, follow=True):
            assert chunk.data.count(0) == len(chunk.data)
            total += len(chunk.data)
        assert total == 1_000_000_000
        assert client.query(task_id).stdout_bytes == total
        assert psutil.Process(daemon.pid_of("front-end")).memory_info().rss < 100 * MIB


def test_a_million_tiny_writes(daemon: Daemon) -> None:
    code = "import os\nfor n in range(1000000): os.write(1, b'%x' % (n & 15))\n"
    with client_of(daemon.address) as client:
        task_id = client.start([sys.executable, "-I", "-S", "-c", code])
        text = b"".join(chunk.data for chunk in client.logs(task_id, follow=True))
        assert text == b"0123456789abcdef" * 62500
        assert b"".join(chunk.data for chunk in client.logs(task_id)) == text


# Where to begin and where to end


def test_the_last_lines_of_both_streams(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        # Each line is sent only when the one before it has arrived, so the order is no matter of luck.
        script = "while read stream line; do echo $line >&$stream; done; printf end"
        task_id = sh(client, script, stdin=True)
        offset = 0
        for number in range(8):
            line = b"%d %s%d\n" % (1 + number % 2, (b"out", b"err")[number % 2], 1 + number // 2)
            send(client, task_id, line, offset)
            offset += len(line)
            wait_for_size(client, task_id, 5 * (number + 1))
        send(client, task_id, b"", offset, end=True)
        ended(client, task_id)
        assert texts(client.logs(task_id, tail=4)) == [b"err3\n", b"out4\n", b"err4\n", b"end"]
        assert texts(client.logs(task_id, tail=2, streams=["stderr"])) == [b"err3\nerr4\n"]
        assert texts(client.logs(task_id, tail=0)) == []
        assert b"".join(texts(client.logs(task_id, tail=99))) == b"".join(texts(client.logs(task_id)))


def wait_for_size(client: Client, task_id: str, size: int) -> None:
    eventually(lambda: sum(len(chunk.data) for chunk in client.logs(task_id)) == size, f"{size} bytes")


def test_the_last_lines_and_then_what_comes(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = sh(client, "seq 100000; while [ ! -e /proc/$PPID/none ]; do read go; echo $go; done", stdin=True)
        eventually(lambda: texts(client.logs(task_id, tail=1)) == [b"100000\n"], "the last of many lines")
        chunks = client.logs(task_id, tail=2, follow=True)
        assert next(chunks).data == b"99999\n100000\n"
        send(client, task_id, b"more\n")
        assert next(chunks).data == b"more\n"
        client.signal(task_id)


def test_since_and_until_by_the_hosts_clock(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = sh(client, "while read line; do echo $line; done", stdin=True)
        for number in range(1, 6):
            send(client, task_id, b"%d\n" % number, 2 * (number - 1), end=number == 5)
            wait_for_size(client, task_id, 2 * number)
        chunks = list(client.logs(task_id, follow=True, exact_times=True))
        times = [chunk.time_ns for chunk in chunks]
        assert times == sorted(times)
        for first in range(5):
            for last in range(first, 5):
                found = client.logs(task_id, since=Moment(times[first]), until=Moment(times[last]))
                assert b"".join(texts(found)) == b"".join(texts(chunks[first : last + 1])), (first, last)
        assert b"".join(texts(client.logs(task_id, since=times[-1] / 1e9 + 1))) == b""


def test_following_until_a_moment_ends_there(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = sh(client, "while :; do echo tick; sleep 0.02; done")
        eventually(lambda: texts(client.logs(task_id)), "the first of them")
        text = texts(client.logs(task_id, follow=True, until=time.time() + 0.5))
        assert b"tick\n" in b"".join(text)
        assert client.query(task_id).state is State.RUNNING
        client.signal(task_id)


def test_going_on_from_a_cursor(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = client.start(noise_command(3, 300_000))
        ended(client, task_id)
        chunks = list(client.logs(task_id, exact_times=True))
        for place in range(0, len(chunks), max(1, len(chunks) // 7)):
            rest = client.logs(task_id, exact_times=True, cursor=chunks[place].cursor)
            assert _whole(rest) == _whole(chunks[place + 1 :])


def _whole(chunks: Iterable[LogChunk]) -> list[tuple[str, int, bytes]]:
    """Put together what has one time: where the network cut it says nothing."""
    keys = itertools.groupby(chunks, lambda chunk: (chunk.stream, chunk.time_ns))
    return [(*key, b"".join(chunk.data for chunk in group)) for key, group in keys]


def test_dropped_bytes_are_told_with_their_number(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        task_id = client.start(["seq", "1000000"], log_cap=MIB)
        record = ended(client, task_id)
        chunks = list(client.logs(task_id))
        (hole,) = [chunk for chunk in chunks if chunk.dropped]
        text = b"".join(texts(chunks))
        assert hole.stream == "stdout"
        assert len(text) + hole.dropped == record.stdout_bytes == len(_seq(1_000_000))
        assert text.startswith(b"1\n2\n")
        assert text.endswith(b"999999\n1000000\n")
        assert texts(client.logs(task_id, tail=1)) == [b"1000000\n"]


def test_logs_that_were_removed_are_told_too(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "echo one; echo three >&2")
        ended(client, task_id)
        for file in (daemon.state_dir / "tasks" / task_id).glob("*.0000*"):
            file.unlink()
        # As levityd itself does before it removes anything.
        (daemon.state_dir / "tasks" / task_id / "output.removed").touch()
        chunks = list(client.logs(task_id))
        assert [(chunk.stream, chunk.data, chunk.dropped) for chunk in chunks] == [
            ("stdout", b"", 4),
            ("stderr", b"", 6),
        ]
        assert client.query(task_id).stdout_bytes == 4


def test_damage_is_not_taken_for_what_was_dropped(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = sh(client, "echo 12345; echo 678 >&2")
        ended(client, task_id)
        os.truncate(daemon.state_dir / "tasks" / task_id / "stdout.0000000000000000.log", 2)
        got: list[LogChunk] = []
        with pytest.raises(IncompleteLog, match="stdout"):
            collections.deque(map(got.append, client.logs(task_id)), maxlen=0)
        assert sorted(texts(got)) == [b"", b"12", b"678\n"]
        assert [chunk.dropped for chunk in got if chunk.is_lost] == [4]


def test_silent_followers_do_not_slow_others(daemon: Daemon) -> None:
    """Though there are many of them."""
    with client_of(daemon.address) as client:
        silent = sh(client, "echo here; exec sleep 600")
        idle = [client.logs(silent, follow=True) for _ in range(200)]
        for follower in idle:
            next(follower)
        code = "import os, time\nfor n in range(60): os.write(1, b'%d\\n' % time.time_ns()); time.sleep(0.02)\n"
        task_id = client.start([sys.executable, "-I", "-S", "-c", code])
        late = []
        for chunk in client.logs(task_id, follow=True):
            now = time.time_ns()
            late += [(now - int(line)) / 1e6 for line in chunk.data.split()]
        # With a rest for each of them it would be 100 ms.
        assert sorted(late)[len(late) // 2] < 80
        for follower in idle:
            follower.close()  # type: ignore[attr-defined]
        client.signal(silent)
