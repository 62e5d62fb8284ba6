"""No combination of options opens a port off loopback in the clear, or one that lets unauthenticated clients in.

Each levityd has a network namespace of its own, with an address there. All combinations:
tests/unit/arbiter/test_access.py.
"""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from levity.protocol.messages import request_frame
from tests.support.certificates import make_ca
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.paths import levityd_command

NETWORK = 'ip link set lo up && ip address add 192.0.2.7/24 dev lo && exec "$@"'
ADDRESSES = ["0.0.0.0:0", "[::]:0", "192.0.2.7:0"]
OPTIONS = ["", "certificate", "ca", "crl"]

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))), reason="needs root and namespaces"
)

# What comes to who sends these bytes: to a client in the clear, and to one in TLS that shows nothing.
PROBE = """
import socket, ssl, sys
host, port, data = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
def read(sock):
    came = b""
    sock.settimeout(5)
    try:
        while more := sock.recv(65536):
            came += more
    except OSError as error:
        came += type(error).__name__.encode() * isinstance(error, TimeoutError)
    return came
plain = socket.create_connection((host, port))
plain.sendall(data)
print(read(plain))
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
secure = context.wrap_socket(socket.create_connection((host, port)))
print(secure.version())
try:
    secure.sendall(data)
except OSError:
    pass
print(read(secure))
"""


@pytest.mark.parametrize(("address", "options"), list(itertools.product(ADDRESSES, OPTIONS)))
def test_every_port_off_loopback_wants_to_know(
    make_daemon: Callable[..., Daemon], tmp_path: Path, address: str, options: str
) -> None:
    ca = make_ca(tmp_path)
    server, crl = ca.server(), ca.crl()
    given = ["--certificate", str(server.path), "--key", str(server.key_path)] if options else []
    given += ["--client-ca", str(ca.path)] if options in {"ca", "crl"} else []
    given += ["--crl", str(crl)] if options == "crl" else []
    command = ["unshare", "--net", "sh", "-c", NETWORK, "sh", *levityd_command(), *given]
    daemon = make_daemon(address, command=command).start()
    host, _colon, port = str(daemon.address).rpartition(":")
    marker = tmp_path / "marker"
    start = request_frame(
        1, "task.start", {"id": "6f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42", "argv": ["touch", str(marker)]}
    )
    reached = {"0.0.0.0": "192.0.2.7", "[::]": "::1"}.get(host, host)
    probe = [sys.executable, "-I", "-c", PROBE, reached, port, start.hex()]
    done = subprocess.run(
        ["nsenter", "-t", str(daemon.pid), "-n", *probe], capture_output=True, text=True, timeout=50, check=True
    )
    plain, version, secure = done.stdout.splitlines()
    assert "{" not in plain
    assert version == "TLSv1.3"
    assert '"result"' not in secure
    if options in {"ca", "crl"}:
        assert "{" not in secure
    else:
        assert '"auth":"token"' in secure
        assert secure.count("jsonrpc") <= 2
    assert not marker.exists()
    audit = daemon.state_dir / "audit.log"
    eventually(lambda: audit.read_text().count('"decision":"denied"') == 2, "both refusals in the audit")
