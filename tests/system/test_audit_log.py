"""The audit of a real levityd: a line for each event whatever is in it, on a full disk later, never a number twice."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from levity.errors import LevityError
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.impostor import taken_over, weak_command
from tests.support.tasks import alive, client_of, ended, running_in, sh

LONGEST_LINE = 32 * 1024
NASTY = '\n{"seq":99,"op":"forged"}\r\n\x1b[2J\x00\u2028'


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file, each of which is printable ASCII and not long."""
    found = []
    data = path.read_bytes()
    assert data.endswith(b"\n"), "a line is not whole yet"
    for line in data.splitlines():
        assert len(line) <= LONGEST_LINE
        assert all(0x20 <= byte < 0x7F for byte in line)
        found.append(json.loads(line))
    return found


def test_no_argument_makes_a_line_of_its_own(daemon: Daemon) -> None:
    nasty = NASTY.replace("\x00", "")
    with client_of(daemon.address) as client:
        ended(client, client.start(["/bin/echo", nasty, "x" * 100_000]))
        with pytest.raises(LevityError):
            client.start(["/bin/echo", nasty * 200_000])
    starts = [line for line in lines(daemon.state_dir / "audit.log") if line["op"] == "task.start"]
    assert len(starts) == 2
    assert starts[0]["argv"][:2] == ["/bin/echo", nasty]
    assert starts[0]["argv_cut"]["bytes"] > 90_000
    assert starts[1]["argv_cut"]["bytes"] > 4_000_000


def test_no_text_of_a_front_end_makes_a_line_of_its_own(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(command=weak_command()).start()
    with taken_over(daemon) as impostor:
        for text in (NASTY, NASTY * 100_000, "\ud800"):
            impostor.ask("auth.rejected", {"peer": text, "reason": text})
    refused = [line for line in lines(daemon.state_dir / "audit.log") if line["op"] == "authenticate"]
    assert len(refused) == 3
    assert refused[0]["peer"] == refused[0]["reason"] == NASTY
    assert not any(line["op"] == "forged" for line in refused)


def test_numbers_go_on_when_the_engine_is_killed_and_the_file_renamed(daemon: Daemon) -> None:
    path = daemon.state_dir / "audit.log"
    with client_of(daemon.address) as client:
        for turn in range(4):
            sh(client, "true")
            if turn % 2:
                path.rename(daemon.state_dir / f"audit.old.{turn}")
                sh(client, "true")
            else:
                daemon.kill("engine")
                sh(client, "true")
    files = [daemon.state_dir / "audit.old.1", daemon.state_dir / "audit.old.3", path]
    seqs = [line["seq"] for file in files for line in lines(file)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= 8


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "none", tmp_path], check=False).returncode:
        pytest.skip("this root may not mount")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_on_a_full_disk_a_signal_works_and_its_line_comes_later(
    make_daemon: Callable[..., Daemon], tight: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("place")
    daemon = make_daemon(state_dir=tight / "state").start()
    audit = daemon.state_dir / "audit.log"

    def signals() -> list[Any]:
        return [line["task"] for line in lines(audit) if line["op"] == "task.signal"]

    with client_of(daemon.address) as client:
        task_id = sh(client, f"echo $$ > {place}/pid; exec sleep 600", grace_s=0.5)
        pid = running_in(place, "pid")
        filler = tight / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError:
            pass
        for _ in range(3):  # Each takes some of what is left of the last page of the audit.
            with pytest.raises(LevityError):
                client.start(["/bin/true", "x" * 3000])
        client.signal(task_id)
        eventually(lambda: not alive(pid), "the end of the task")
        filler.unlink()
        eventually(lambda: task_id in signals(), "the line of the signal")
    seqs = [line["seq"] for line in lines(audit)]
    assert seqs == list(range(1, len(seqs) + 1))
