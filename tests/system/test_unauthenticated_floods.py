"""Floods of unauthenticated clients that send little or nothing: known clients notice nothing, new ones get in."""

import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from levity import Client
from tests.support.certificates import self_signed
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.launch import under_shell
from tests.support.paths import ROOT, clean_environment, levityd_command
from tests.support.tasks import client_of, output, sh

FLOOD = 500
HELD_AT_MOST = 64
# What is measured is under 0.1 s; a test's bound must also hold on a loaded machine.
ANSWERED_WITHIN_S = 1.0
DROPPED_WITHIN_S = 20.0


@pytest.fixture(params=["plain", "tls"])
def flooded(request: pytest.FixtureRequest, make_daemon: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    if request.param == "plain":
        return make_daemon("127.0.0.1:0").start()
    certificate = self_signed(tmp_path)
    files = ["--certificate", str(certificate.path), "--key", str(certificate.key_path)]
    return make_daemon("127.0.0.1:0", command=[*levityd_command(), *files]).start()


def known_client(daemon: Daemon) -> Client:
    is_tls = "--certificate" in daemon._command
    return Client(daemon.address, tls=is_tls, token_file=daemon.token_file)


@contextmanager
def flood(daemon: Daemon, count: int) -> Iterator[list[socket.socket]]:
    """Connect so many times, and have a byte sent on each connection now and then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    over = threading.Event()
    host, port = str(daemon.address).rsplit(":", 1)
    with ExitStack() as undo:
        came = [undo.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(count)]

        def drip() -> None:
            # The length of a frame, of which half never comes.
            while not over.wait(1.0):
                for sock in came[::2]:
                    try:
                        sock.send(b"\0")
                    except OSError:
                        pass  # It was dropped.

        dripper = threading.Thread(target=drip)
        dripper.start()
        try:
            yield came
        finally:
            over.set()
            dripper.join()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_known_clients_are_answered_and_new_ones_get_in_during_a_flood(flooded: Daemon) -> None:
    frontend = psutil.Process(flooded.pid_of("front-end"))
    with known_client(flooded) as client:
        client.info()
        threads, descriptors = frontend.num_threads(), frontend.num_fds()
        with flood(flooded, FLOOD):
            times = []
            for _ in range(100):
                before = time.monotonic()
                client.info()
                times.append(time.monotonic() - before)
            assert sorted(times)[90] < ANSWERED_WITHIN_S
            # Those that were dropped are on their way out.
            eventually(lambda: frontend.num_threads() <= threads + HELD_AT_MOST, "the flood to be held back")
            eventually(lambda: frontend.num_fds() <= descriptors + HELD_AT_MOST, "the flood to be held back")
            with known_client(flooded) as new:
                assert new.info()
            eventually(
                lambda: frontend.num_threads() <= threads and frontend.num_fds() <= descriptors,
                "all who said nothing to be dropped",
                DROPPED_WITHIN_S,
            )
            client.info()
    assert flooded.pid_of("front-end") == frontend.pid
    assert "Error" not in flooded.stderr_text()


def test_with_few_descriptors_unauthenticated_clients_get_few_of_them(make_daemon: Callable[..., Daemon]) -> None:
    # Room for fewer unauthenticated clients than otherwise.
    daemon = make_daemon("127.0.0.1:0", command=under_shell("ulimit -n 40;")).start()
    frontend = psutil.Process(daemon.pid_of("front-end"))
    with client_of(daemon.address) as client:
        task_id = sh(client, "echo here; exec sleep 600")
        eventually(lambda: output(client, task_id)[0], "the task's output")
        threads = frontend.num_threads()
        with flood(daemon, 200):
            # Sooner than the deadline of unauthenticated clients.
            eventually(lambda: frontend.num_threads() <= threads + 40 // 8, "the flood to be held back", 8)
            before = frontend.cpu_times()
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                client.info()
                time.sleep(0.1)
            used = frontend.cpu_times()
            assert used.user + used.system - before.user - before.system < 0.5
            # It takes a new connection, and more descriptors.
            assert output(client, task_id) == (b"here\n", b"")
    assert daemon.pid_of("front-end") == frontend.pid


# Run where nothing but lo is, which has some addresses that are not loopback.
_PENALTIES = """
import socket, ssl, sys
sys.path.insert(0, {root!r})
from levity import Client
from tests.support.daemon import Daemon
from tests.support.deadline import eventually

def is_greeted(source):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("10.77.0.1", port), 10, (source, 0)) as plain:
            with context.wrap_socket(plain) as sock:
                return bool(sock.recv(1))
    except OSError:
        return False

def fail(source):
    with socket.create_connection(("10.77.0.1", port), 10, (source, 0)) as bad:
        try:
            bad.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
            while bad.recv(100):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass

daemon = Daemon("10.77.0.1:0").start()
try:
    port = int(daemon.address.rpartition(":")[2])
    assert is_greeted("10.77.0.2")
    for _ in range(6):
        fail("10.77.0.2")
    # The first penalty is a second, and each failure after that makes it longer.
    eventually(lambda: fail("10.77.0.2") or not is_greeted("10.77.0.2"), "a penalty for failures")
    assert is_greeted("10.77.0.3"), "another one is refused, too"
    with Client(daemon.address, token_file=daemon.token_file) as client:
        client.info()
    eventually(lambda: is_greeted("10.77.0.2"), "the penalty to end", 40)
finally:
    daemon.end()
"""
_NETWORK = "ip link set lo up && for n in 1 2 3; do ip addr add 10.77.0.$n/32 dev lo; done &&"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"), reason="needs root")
def test_a_source_that_fails_often_waits_and_others_do_not() -> None:
    code = _PENALTIES.format(root=str(ROOT))
    done = subprocess.run(
        ["unshare", "--net", "/bin/sh", "-c", f'{_NETWORK} exec "$0" -c "$1"', sys.executable, code],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=50,
        check=False,
    )
    if "unshare" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("no network namespaces here")
    assert done.returncode == 0, done.stderr
