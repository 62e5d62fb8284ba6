"""What documents tell of the state directory is true of a real one: each name in it, and who may read it."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from levity import Client
from tests.support.daemon import Daemon
from tests.support.documents import page, quoted, section, tables, tree_of_files
from tests.support.launch import fine, run_levityd

TOLD = tree_of_files(section(page("docs/architecture.md"), "Files"))


def pattern(name: str) -> str:
    """Return what matches the names that this one in a document stands for; of a directory, what is in it, too."""
    pieces = [re.escape(piece) for piece in re.split(r"<\w+>|NAME|ID", name.rstrip("/"))]
    return r"[\w.-]+".join(pieces) + (r"(/.*)?" if name.endswith("/") and name != "tasks/" else "")


@pytest.fixture(scope="module")
def used() -> Iterator[Path]:
    """Yield a state directory that all of levityd has used, with a task that is over and one that takes input."""
    daemon = Daemon()
    state_dir = daemon.state_dir
    for command in (["token", "add", "alice"], ["certs", "init"], ["certs", "user", "alice", "--role", "viewer"]):
        fine(run_levityd(*command, "--state-dir", str(state_dir)))
    # Off loopback it makes a certificate for itself.
    elsewhere = Daemon("0.0.0.0:0", state_dir=state_dir)
    try:
        elsewhere.start().stop()
        with Client(daemon.start().address) as client:
            assert client.run(["sh", "-c", "echo one; echo two >&2"]).exit_code == 0
            client.write_stdin(client.start(["sleep", "1000"], stdin=True), b"x" * 2**20)
        yield state_dir
    finally:
        elsewhere.end()
        daemon.end()


def names_in(state_dir: Path) -> list[str]:
    return [str(path.relative_to(state_dir)) for path in state_dir.rglob("*")]


def test_the_architecture_tells_every_name(used: Path) -> None:
    patterns = [pattern(name) for name in TOLD] + ["tasks", "tokens", r"tasks/[\w-]+", r"registry\.db-(wal|shm)"]
    names = names_in(used)
    strange = [name for name in names if not any(re.fullmatch(one, name) for one in patterns)]
    assert not strange
    # What only a limit, a damage, a fault or another address makes is not there.
    missing = {name for name in TOLD if not any(re.fullmatch(pattern(name), one) for one in names)}
    rare = {"registry.db.corrupt-<n>", "shim-crash.log", "audit.log.<n>"}
    rare |= {f"tasks/ID/{name}" for name in ("output.removed", "stdin.closed", "shim.json.started")}
    assert missing <= rare


def test_the_security_page_tells_the_modes(used: Path) -> None:
    for row in tables(section(page("docs/security.md"), "The state directory"))[0][1:]:
        (mode,) = re.findall(r"\b0[67]00\b", row[1])
        if os.geteuid() == 0 and (roots := re.match(r"root's: (0\d+)", row[2])):
            mode = roots[1]
        for name in quoted(row[0]):
            found = [one for one in names_in(used) if re.fullmatch(pattern(name).removesuffix(r"(/.*)?"), one)]
            assert found, name
            for one in found:
                assert f"{stat.S_IMODE(os.stat(used / one).st_mode):04o}" == mode, one
