"""Other users of the host, and tasks that run as others: what they try at levityd's port, files and processes."""

import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from levity.protocol.messages import request_frame
from tests.support.cli import levity
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.other_user import as_other_user, attempts
from tests.support.tasks import client_of, ended, output, sh

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")


@pytest.fixture
def secret(tcp_daemon: Daemon) -> str:
    with client_of(tcp_daemon.address) as client:
        task_id = sh(client, "echo secret")
        ended(client, task_id)
        return task_id


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_another_user_reads_nothing(tcp_daemon: Daemon, secret: str) -> None:
    state, task = tcp_daemon.state_dir, tcp_daemon.state_dir / "tasks" / secret
    files = [state / name for name in ("token", "ticket.key", "audit.log", "registry.db", "levityd.lock")]
    files += [task / name for name in ("spec.json", "exit.json", "stdout.0000000000000000.log")]
    assert all(file.exists() for file in files)
    found = attempts(
        {f"open {file}": f"open({str(file)!r}, 'rb').read()" for file in files}
        | {f"write {file}": f"open({str(file)!r}, 'ab').close()" for file in files}
        | {f"list {place}": f"os.listdir({str(place)!r})" for place in (state, task)}
        | {"replace": f"os.rename({str(state)!r}, {str(state)!r} + '.old')"}
    )
    assert set(found.values()) == {"EACCES"}, found


def test_another_user_signals_and_traces_nothing(tcp_daemon: Daemon) -> None:
    with client_of(tcp_daemon.address) as client:
        sh(client, "exec sleep 600")
        eventually(lambda: any(role.startswith("shim") for role in tcp_daemon.pids()), "its shim")
    pids = [pid for found in tcp_daemon.pids().values() for pid in found]
    found = attempts(
        {f"kill {pid}": f"os.kill({pid}, 9)" for pid in pids}
        | {f"environ {pid}": f"open('/proc/{pid}/environ', 'rb').read()" for pid in pids}
        | {f"mem {pid}": f"open('/proc/{pid}/mem', 'rb').read(1)" for pid in pids}
    )
    assert set(found.values()) <= {"EPERM", "EACCES"}, found
    assert [pid for found in tcp_daemon.pids().values() for pid in found] == pids


# Not create_connection(): that loads a codec, from where another user may not read.
_ASK = """
sock = socket.socket()
sock.connect(("127.0.0.1", {port}))
sock.sendall({data!r})
came = b""
try:
    while data := sock.recv(65536):
        came += data
except ConnectionError:
    pass
result = came.decode("latin-1")
"""


def test_another_user_at_the_port_is_told_nothing(tcp_daemon: Daemon, secret: str, tmp_path: Path) -> None:
    port = int(str(tcp_daemon.address).rpartition(":")[2])
    marker = tmp_path / "marker"
    for method, params in (
        ("task.list", {"all": True}),
        ("task.query", {"id": secret}),
        ("task.start", {"id": secret, "argv": ["/usr/bin/touch", str(marker)]}),
    ):
        came = as_other_user(_ASK.format(port=port, data=request_frame(1, method, params)))
        assert came.count('"jsonrpc"') == 2, came
        assert '"method":"hello"' in came
        assert '"error"' in came
        assert secret not in came
    assert not marker.exists()


_SQUAT = """
from levity.protocol.messages import notification_frame
server = socket.create_server(("127.0.0.1", {port}))
sock, _address = server.accept()
sock.sendall(notification_frame("hello", {{"server": "levityd", "protocol": 1, "auth": "token", "nonce": "00" * 32}}))
sock.settimeout(10)
came = sock.recv(65536)
sock.sendall({answer})
try:
    while data := sock.recv(65536):
        came += data
except ConnectionError:
    pass
result = came.decode("latin-1")
"""
_WRONG_PROOF = """__import__("levity.protocol.messages", fromlist=["x"]).result_frame(0, {"proof": "11" * 32})"""


def listens(port: int) -> bool:
    return any(
        one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN
        for one in psutil.net_connections("tcp")
    )


def test_a_process_that_took_the_port_first_gets_only_a_nonce(tcp_daemon: Daemon) -> None:
    port = free_port()
    with ThreadPoolExecutor(1) as pool:
        squatter = pool.submit(as_other_user, _SQUAT.format(port=port, answer=_WRONG_PROOF))
        eventually(lambda: listens(port), "the squatter")
        known = {"LEVITY_TOKEN_FILE": str(tcp_daemon.token_file)}
        done = levity(f"127.0.0.1:{port}", "start", "-D", "PASSWORD=hunter2", "secret-command", env=known)
        came = squatter.result()
    assert done.returncode == 255
    assert b"something else listens there" in done.stderr
    asked = json.loads(came[5:])
    assert set(asked) == {"jsonrpc", "id", "method", "params"}
    assert (asked["method"], set(asked["params"])) == ("auth.begin", {"nonce"})
    assert tcp_daemon.token_file.read_text().strip().removeprefix("levity_") not in came


_RELAY = """
import threading
server = socket.create_server(("127.0.0.1", {port}))
near, _address = server.accept()
far = socket.socket()
far.connect(("127.0.0.1", {target}))
came = b""
def pump(source, sink):
    global came
    try:
        while data := source.recv(65536):
            if source is near:
                came += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
threads = [threading.Thread(target=pump, args=ends) for ends in ((near, far), (far, near))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
result = came.decode("latin-1")
"""


def test_nothing_is_passed_on_from_another_port(tcp_daemon: Daemon, tmp_path: Path) -> None:
    """Though both ends have the same token, and the relay changes nothing."""
    port, target = free_port(), int(str(tcp_daemon.address).rpartition(":")[2])
    with ThreadPoolExecutor(1) as pool:
        relay = pool.submit(as_other_user, _RELAY.format(port=port, target=target))
        eventually(lambda: listens(port), "the relay")
        known = {"LEVITY_TOKEN_FILE": str(tcp_daemon.token_file)}
        done = levity(f"127.0.0.1:{port}", "start", "touch", str(tmp_path / "marker"), env=known)
        came = relay.result()
    assert done.returncode == 255
    assert b"is not reached at its own address" in done.stderr
    assert "task.start" not in came
    assert "auth.finish" not in came


def test_exactly_the_address_that_was_asked_for_listens(tcp_daemon: Daemon) -> None:
    host, _colon, port = str(tcp_daemon.address).rpartition(":")
    mine = {pid for pids in tcp_daemon.pids().values() for pid in pids}
    listening = [one for one in psutil.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    found = {tuple(one.laddr) for one in listening if one.pid in mine}
    assert found == {(host, int(port))}


# Tasks


_BAD_TASK = """
ls /proc/self/fd
for pid in $PPID $1; do kill -9 $pid && echo killed; done
cat $2/token && echo read; cat $2/audit.log && echo read; ls $2 && echo read
cat /proc/$PPID/environ && echo read; cat /proc/$PPID/mem && echo read
echo x >$2/tasks/$LEVITY_TASK_ID/exit.json && echo written
printf '{"state":"Finished","exit_code":0}\\n'
exit 7
"""


def test_a_task_of_another_account_gets_at_nothing(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    eventually(lambda: "zygote" in daemon.pids(), "the zygote")
    others = " ".join(str(pid) for pids in daemon.pids().values() for pid in pids)
    with client_of(daemon.address) as client:
        task_id = client.start(["/bin/sh", "-c", _BAD_TASK, "sh", others, str(daemon.state_dir)], user="nobody")
        record = ended(client, task_id)
        stdout, stderr = output(client, task_id)
    lines = stdout.decode().splitlines()
    # 3 is the directory that ls(1) itself reads.
    assert lines[:4] == ["0", "1", "2", "3"]
    # What looks like a record is only output.
    assert lines[4:] == ['{"state":"Finished","exit_code":0}'], lines
    assert (record.exit_code, record.signal) in {(7, None), (137, "SIGKILL")}
    assert stderr.count(b"ermi") >= 5
    assert " ".join(str(pid) for pids in daemon.pids().values() for pid in pids) == others
    audit = (daemon.state_dir / "audit.log").read_text()
    assert all(json.loads(line) for line in audit.splitlines())
