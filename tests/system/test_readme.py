"""README.md is true: what it shows can be copied and does what it says beside it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import processes
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.paths import ROOT, clean_environment

PAGE = (ROOT / "README.md").read_text(encoding="utf-8")

# What README calls host.example: an address that is not loopback, in a network and with system directories of our own.
HOST = "192.0.2.7"
ELSEWHERE = ["unshare", "--mount", "--net", "bash", "-c"]
PRELUDE = (
    "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && "
    f"ip link set lo up && ip address add {HOST}/32 dev lo || exit 99"
)

pytestmark = pytest.mark.skipif(not (ROOT / "bin" / "levityd").exists(), reason="needs `make binaries`")


def can_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*ELSEWHERE, PRELUDE], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="needs root, and namespaces for mounts and network")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Yield an environment with levity in the path and a home of its own; end what is left of whatever ran there."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="levity-readme-", dir="/tmp") as home:
        mine = {processes.MARK: mark, "HOME": home, "LEVITY_STATE_DIR": f"{home}/state"}
        yield {**clean_environment(), **mine, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"}
        eventually(lambda: not kill_marked(mark), "the end of all that the session left")


def kill_marked(mark: str) -> bool:
    found = list(processes.marked(mark))
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return bool(found)


def sessions(title: str) -> list[list[str]]:
    """Return the indented paragraphs of a section, each as its lines."""
    found = re.search(rf"^## {title}$(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return [[line[4:] for line in one.splitlines()] for one in re.findall(r"(?:^    .*\n)+", found[1], re.MULTILINE)]


def run(lines: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    # Enough for a person at a terminal, not for a machine that runs other tests meanwhile.
    lines = [line.replace("& sleep 1", "& until levity info; do sleep 0.1; done >/dev/null 2>&1") for line in lines]
    lines = [line.replace("sleep 1;", "sleep 5;").replace("sleep 2;", "levity wait $id;") for line in lines]
    return subprocess.run(
        ["bash", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, timeout=50, check=False
    )


def test_the_session_on_the_unix_socket(environment: dict[str, str]) -> None:
    done = run(sessions("Use it")[0], environment)
    assert done.stdout.split() == ["Running", "one", "Finished", "3", "hello", "4"], done.stderr
    assert f"Listening on unix:{environment['LEVITY_STATE_DIR']}/levity.sock" in done.stderr
    assert "two\n" in done.stderr


def test_the_session_over_tcp(environment: dict[str, str]) -> None:
    port = str(free_port())
    done = run([line.replace("4321", port) for line in sessions("Use it")[1]], environment)
    lines = done.stdout.splitlines()
    assert "Running" in lines[1], done.stderr
    assert lines[2:6] == ["/tmp blue", "Finished", "143", "143"]
    assert '"signal":"SIGTERM"' in lines[6]


def test_the_session_that_reads_output(environment: dict[str, str]) -> None:
    done = run(sessions("Use it")[2], environment)
    lines = done.stdout.splitlines()
    every = [f"line {number}" for number in range(1, 6)]
    assert lines[:5] == every, done.stderr
    # The last line of all is on stderr.
    assert lines[5] == "line 5"
    assert [line.partition(" out ")[2] for line in lines[6:11]] == every
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ", lines[6])
    assert '"text":"done\\n"' in lines[11]
    assert lines[12:] == ["3", "2", "1"]


def run_elsewhere(lines: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run lines of "Who may use it" in a host of their own, and stop the levityd that they start."""
    listening = "2>said & until grep -q Listening said; do sleep 0.1; done"
    lines = [line.replace("host.example", HOST).replace("& sleep 1", listening) for line in lines]
    script = [PRELUDE, 'cd "$HOME"', *lines, "kill %1; wait"]
    return subprocess.run(
        [*ELSEWHERE, "\n".join(script)], env=environment, capture_output=True, text=True, timeout=50, check=False
    )


@needs_namespaces
def test_the_session_of_all_users(environment: dict[str, str]) -> None:
    del environment["LEVITY_STATE_DIR"]
    # An account that every host has.
    lines = [line.replace("--user alice", "--user nobody") for line in sessions("Who may use it")[0]]
    done = run_elsewhere([*lines, "head -1 said"], environment)
    assert done.stdout.splitlines() == ["root", "nobody", "Listening on unix:/run/levity/levity.sock"], done.stderr


@needs_namespaces
def test_the_session_with_a_token(environment: dict[str, str]) -> None:
    host, there = sessions("Who may use it")[1:3]
    # Not asked for, where there is no terminal. And an account that every host has: root's levityd runs it as that.
    host = [re.sub("token add alice( .*)?$", "token add nobody >given", line) for line in host]
    there = [*(re.sub("login$", "login <given", line) for line in there), f"levity -a {HOST}:4321 info | grep user:"]
    done = run_elsewhere([*host, *there], environment)
    assert done.stdout.splitlines() == [socket.gethostname(), "user: nobody"], done.stderr
    assert f"logged in at {HOST}:4321 as nobody, role user" in done.stderr


@needs_namespaces
def test_the_session_with_certificates(environment: dict[str, str]) -> None:
    lines = [*sessions("Who may use it")[3], *sessions("Who may use it")[4], "levityd certs revoke nobody"]
    lines += [lines[-2]]
    for old, new in (("~/.local/state/levity", '"$LEVITY_STATE_DIR"'), ("alice", "nobody")):
        lines = [line.replace(old, new) for line in lines]
    # The three files are where alice is.
    lines.insert(4, "mkdir there; cp ca.pem nobody.* there; cd there")
    done = run_elsewhere(lines, environment)
    assert done.stdout.splitlines() == [socket.gethostname()], done.stderr
    assert f"{HOST}:4321 refuses nobody.pem: it is revoked" in done.stderr


def test_the_python_example(make_daemon: Callable[..., Daemon]) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found
    daemon = make_daemon("127.0.0.1:0").start()
    code = found[1].replace("127.0.0.1:4321", str(daemon.address))
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT), "LEVITY_TOKEN_FILE": str(daemon.token_file)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Finished 0\n" in done.stdout
    assert "0 b'HELLO\\n'\n" in done.stdout
    assert "['ls', '-l', '/']" in done.stdout


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or Path(page.parent / target).exists(), f"{page}: {target}"
