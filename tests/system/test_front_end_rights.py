"""What a front-end has where levityd is root: what it serves with, and nothing that would make it more."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from levity import Client
from levity.protocol.token_proof import parse_token
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.impostor import replaced, taken_over, weak_command
from tests.support.other_user import attempts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only a root levityd has a front-end of less power")

ADDRESSES = ["", "127.0.0.1:0", "0.0.0.0:0"]


@pytest.fixture(scope="module", params=ADDRESSES, ids=["unix", "loopback", "tls"])
def served(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    one = Daemon(request.param or None)
    try:
        yield one.start()
    finally:
        one.end()


def status_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}


def test_a_front_end_has_no_rights_and_cannot_become_another_user(served: Daemon) -> None:
    pid = served.pid_of("front-end")
    status = status_of(pid)
    assert len({*status["Uid"], *status["Gid"]}) == 1
    assert status["Uid"][0] != "0"
    assert status["Groups"] == []
    assert {int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == ["1"]
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


def test_a_front_end_holds_only_what_it_serves_with(served: Daemon) -> None:
    pid = served.pid_of("front-end")
    held = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    # The pipe to the engine, the control connection, the listener; what wakes its thread; where it complains.
    assert sum(name.startswith("socket:") for name in held) == 3
    assert sum(name.startswith("pipe:") for name in held) == 2
    files = {name for name in held if name.startswith("/")}
    assert files == {"/dev/null", str(served._stderr_path), f"{served.state_dir}/frontend.lock"}


def memory_of(pid: int) -> Iterator[bytes]:
    """Yield all that a process has in memory and may read."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end, rights = re.match(r"(\w+)-(\w+) (....)", line).groups()  # type: ignore[union-attr]
            if rights.startswith("r") and "[v" not in line:
                memory.seek(int(start, 16))
                yield memory.read(int(end, 16) - int(start, 16))


def test_no_key_is_in_its_memory(served: Daemon) -> None:
    secrets = [(served.state_dir / "ticket.key").read_bytes()]
    if served.token_file.exists():
        text = served.token_file.read_text().strip()
        secrets += [text.encode(), parse_token(text), parse_token(text).hex().encode()]
        is_tls = str(served.address).startswith("0.0.0.0")
        with Client(served.address, tls=is_tls, token_file=served.token_file) as client:
            client.info()
    pid = served.pid_of("front-end")

    def look() -> list[bool]:
        # The stack of a thread that ends meanwhile cannot be read: then all is looked at again.
        return [any(secret in piece for piece in memory_of(pid) for secret in secrets)]

    assert eventually(look, "all of its memory to be read") == [False]
    assert any(secrets[0] in piece for piece in memory_of(served.pid_of("engine"))), "this test finds nothing"


def test_another_process_of_that_user_gets_at_nothing(served: Daemon) -> None:
    uid = int(status_of(served.pid_of("front-end"))["Uid"][0])
    state, engine = str(served.state_dir), served.pid_of("engine")
    found = attempts(
        {
            "list": f"os.listdir({state!r})",
            "token": f"os.open({state + '/token'!r}, os.O_RDONLY)",
            "key": f"os.open({state + '/ticket.key'!r}, os.O_RDONLY)",
            "registry": f"os.open({state + '/registry.db'!r}, os.O_RDWR)",
            "audit": f"os.open({state + '/audit.log'!r}, os.O_WRONLY)",
            "hint": f"socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect({state + '/engine.sock'!r})",
            "signal": f"os.kill({engine}, 0)",
            "memory": f"os.open('/proc/{engine}/mem', os.O_RDONLY)",
            "descriptors": f"os.listdir('/proc/{engine}/fd')",
            "root": "os.setuid(0)",
            "groups": "os.setgroups([0])",
        },
        uid=uid,
        gid=uid,
    )
    assert set(found.values()) <= {"EACCES", "EPERM"}, found


def test_a_child_that_a_front_end_leaves_holds_no_lock() -> None:
    one = Daemon(command=weak_command())
    try:
        with taken_over(one.start()) as impostor:
            held = {str(path.readlink()) for path in Path(f"/proc/{impostor.pid}/fd").iterdir()}
            assert not any(name.endswith("/levityd.lock") for name in held)
            impostor.say(ready=True)
            impostor.pipe.send(b"GET / ")
            replaced(one, impostor)
        killed = one.kill("engine")
        eventually(lambda: one.pid_of("engine") != killed, "another engine")
    finally:
        one.end()
