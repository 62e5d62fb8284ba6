"""Real programs as tasks: a redis-server across a SIGKILL of everything, streams compared by checksum.

LEVITY_SLOW=1 makes the stream 1 GiB instead of 64 MiB.
"""

import hashlib
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from levity.states import State
from tests.support.cli import levity
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.tasks import client_of, ended

STREAM_BYTES = (1 << 30) if os.environ.get("LEVITY_SLOW") else (64 << 20)

# Pseudo-random, so that a lost, doubled or moved block shows; the checksum comes on the other stream.
WRITER = """
import hashlib, random, sys
chance, total, left = random.Random(5), hashlib.sha256(), int(sys.argv[1])
block = chance.randbytes(1 << 20)
while left:
    size = min(left, chance.randrange(1, 1 << 18))
    start = chance.randrange(len(block) - size)
    piece = block[start:start + size]
    total.update(piece)
    sys.stdout.buffer.write(piece)
    left -= size
sys.stdout.flush()
print(total.hexdigest(), file=sys.stderr)
"""


def ping(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_redis_server_is_kept_across_a_sigkill_of_everything(daemon: Daemon, tmp_path: Path) -> None:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server here (on Debian: apt-get install redis-server)")
    port = free_port()
    arguments = ["--port", str(port), "--dir", str(tmp_path), "--save", "", "--daemonize", "no"]
    task_id = levity(daemon, "start", "-d", str(tmp_path), "--", program, *arguments).stdout.decode().strip()
    eventually(lambda: ping(port) == b"+PONG\r\n", "redis to answer")
    with client_of(daemon.address) as client:
        before = client.query(task_id)
    daemon.kill_all()
    assert ping(port) == b"+PONG\r\n"
    daemon.start()
    assert ping(port) == b"+PONG\r\n"
    with client_of(daemon.address) as client:
        assert client.query(task_id).raw == before.raw
        client.signal(task_id)
        record = ended(client, task_id)
        # Redis handles SIGTERM and exits in order.
        assert (record.state, record.exit_code, record.signal) == (State.FINISHED, 0, None)
    log = levity(daemon, "logs", task_id).stdout
    assert b"Ready to accept connections" in log
    assert b"bye bye" in log


@pytest.mark.timeout(600)
def test_a_long_stream_arrives_byte_for_byte(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = client.start([sys.executable, "-I", "-S", "-c", WRITER, str(STREAM_BYTES)])
        assert ended(client, task_id, 500).exit_code == 0
        total, size, checksum = hashlib.sha256(), 0, b""
        for stream, _, data in client.logs(task_id):
            if stream == "stdout":
                total.update(data)
                size += len(data)
            else:
                checksum += data
    assert size == STREAM_BYTES
    assert total.hexdigest() == checksum.decode().strip()


def test_a_log_that_is_read_while_everything_is_killed_comes_whole_and_once(daemon: Daemon) -> None:
    with client_of(daemon.address) as client:
        task_id = client.start([sys.executable, "-I", "-S", "-c", WRITER, str(16 << 20)])
        ended(client, task_id)
        checksum = b"".join(data for name, _, data in client.logs(task_id) if name == "stderr")
        total, size, kills = hashlib.sha256(), 0, 0
        for stream, _, data in client.logs(task_id):
            if stream != "stdout":
                continue
            total.update(data)
            size += len(data)
            if size > (kills + 1) * (4 << 20) and kills < 3:
                kills += 1
                if kills == 2:
                    daemon.kill_all()
                    daemon.start()
                else:
                    daemon.kill("front-end")
    assert kills == 3
    assert total.hexdigest() == checksum.decode().strip()
