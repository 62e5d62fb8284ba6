"""README.md is true: what it shows can be copied and does what it says beside it."""

import os
import re
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

pytestmark = pytest.mark.skipif(not (ROOT / "bin" / "levityd").exists(), reason="needs `make binaries`")


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
