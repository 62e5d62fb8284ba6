"""Who is at the other end of a unix socket; and becoming another user, with no way back."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.hostos.identity import become
from supervisor.hostos.peers import peer_credentials
from tests.support.other_user import GID, UID, as_other_user, attempts
from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket for everybody."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.bind("sock")
        one.listen()
        one.settimeout(10)
        yield one


# A connection that is made before the user is changed is the old user's: so it goes through a directory descriptor.
def connected(listener: socket.socket, tmp_path: Path, uid: int, gid: int, groups: list[int]) -> socket.socket:
    """Return our end of a connection that another user has made and closed."""
    os.chmod("sock", 0o666)
    tmp_path.chmod(0o711)
    place = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chmod(".", 0o755)
        code = f"peer = socket.socket(socket.AF_UNIX); peer.connect('/proc/self/fd/{place}/sock'); result = os.getpid()"
        pid = as_other_user(code, uid=uid, gid=gid, groups=groups, pass_fds=[place])
    finally:
        os.close(place)
    ours, _address = listener.accept()
    assert peer_credentials(ours)[0] == pid
    return ours


@pytest.mark.parametrize("groups", [[], [7], [7, GID, 2**31, 2**32 - 2], list(range(1000, 1256))], ids=len)
def test_a_peer_is_known_by_its_ids(listener: socket.socket, tmp_path: Path, groups: list[int]) -> None:
    with connected(listener, tmp_path, UID, GID, groups) as ours:
        assert peer_credentials(ours)[1:] == (UID, GID, groups)


def test_more_groups_than_fit_are_told_as_unknown(listener: socket.socket, tmp_path: Path) -> None:
    with connected(listener, tmp_path, UID, GID, list(range(1000, 1257))) as ours:
        assert peer_credentials(ours)[1:] == (UID, GID, None)


def test_where_all_ids_are_known_the_overflow_id_is_a_user(listener: socket.socket, tmp_path: Path) -> None:
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", str(2**32 - 1)]:
        pytest.skip("a user namespace")
    with connected(listener, tmp_path, 65534, 65534, [65534]) as ours:
        assert peer_credentials(ours)[1:] == (65534, 65534, [65534])


# Answers connections in a user namespace that knows root only.
_NAMESPACED = """
import json, socket, sys
sys.path.insert(0, {root!r})
from supervisor.hostos.peers import peer_credentials
listener = socket.socket(fileno={fd})
listener.setblocking(True)
while True:
    ours, _address = listener.accept()
    try:
        print(json.dumps(peer_credentials(ours)[1:]), flush=True)
    except PermissionError:
        print('"refused"', flush=True)
"""


def test_in_a_user_namespace_an_unknown_user_is_refused(listener: socket.socket, tmp_path: Path) -> None:
    """All users that a namespace does not know have the same id there, and a known user may have that id, too."""
    code = _NAMESPACED.format(root=str(ROOT), fd=listener.fileno())
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-I", "-S", "-c", code]
    answering = subprocess.Popen(command, pass_fds=[listener.fileno()], stdout=subprocess.PIPE)
    os.chmod("sock", 0o666)
    tmp_path.chmod(0o755)
    place = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert answering.stdout is not None
        reach = f"socket.socket(socket.AF_UNIX).connect('/proc/self/fd/{place}/sock'); result = 0"
        cases = [
            (0, 0, [0], [0, 0, [0]]),
            (0, 0, [0, 7], [0, 0, [0]]),
            (UID, GID, [], "refused"),
            (UID, 0, [], "refused"),
            (0, GID, [], "refused"),
        ]
        for uid, gid, groups, expected in cases:
            as_other_user(reach, uid=uid, gid=gid, groups=groups, pass_fds=[place])
            if (line := answering.stdout.readline()) == b"":
                pytest.skip("no user namespaces")
            assert json.loads(line) == expected
    finally:
        os.close(place)
        answering.kill()
        answering.communicate()


# Becoming another


def test_there_is_no_way_back() -> None:
    actions = {
        "ids": "[*os.getresuid(), *os.getresgid(), *os.getgroups()]",
        "setuid": "os.setuid(0)",
        "seteuid": "os.seteuid(0)",
        "setgid": "os.setgid(0)",
        "setgroups": "os.setgroups([0])",
        "setresuid": "os.setresuid(-1, -1, 0)",
        "capabilities": "[line.split()[1].strip('0') for line in open('/proc/self/status') if line[:5] in "
        "('CapPr', 'CapEf', 'CapAm')]",
        "traced": "open('/proc/self/mem').close()",
    }
    refused = dict.fromkeys(("setuid", "seteuid", "setgid", "setgroups", "setresuid"), "EPERM")
    found = attempts(actions)
    assert found == refused | {"ids": [UID] * 3 + [GID] * 3, "capabilities": [""] * 3, "traced": "EACCES"}


def test_set_user_id_programs_give_nothing() -> None:
    code = """
def flag():
    return [line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')]
result = [flag(), forbid_privileges(), flag()]
"""
    assert as_other_user(code) == [["0"], True, ["1"]]


def test_root_s_powers_must_not_survive() -> None:
    keep = "import ctypes; assert ctypes.CDLL(None).prctl(28, 1 << 2, 0, 0, 0) == 0"  # SECBIT_NO_SETUID_FIXUP
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from supervisor.hostos.identity import become\n{keep}\n"
        f"become({UID}, {GID})"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr
    assert "way back" in done.stderr


@pytest.mark.parametrize("ids", [(-1, GID), (2**32, GID), (UID, 2**32)], ids=["uid -1", "uid 2**32", "gid 2**32"])
def test_an_id_out_of_range_is_refused(ids: tuple[int, int]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            become(*ids)
        except (OSError, OverflowError):
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
