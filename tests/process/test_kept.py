"""What of a task's output is kept, in which order, and what says that it waits for a disk."""

import os
import subprocess
import sys

import psutil

from supervisor.spool.commands import STDIN as STDIN_COMMAND
from supervisor.spool.layout import DISK_ERROR_BYTE, NO_SPACE_BYTE, segment_name
from supervisor.spool.reader import Hole
from tests.support.deadline import eventually
from tests.support.spool import fetch, joined, opened
from tests.support.zygote import Zygote

MIB = 1024 * 1024


def test_a_cap_keeps_the_beginning_and_the_end(zygote: Zygote) -> None:
    record = zygote.run(["seq", "1000000"], log_cap=MIB)
    path = zygote.path(record["id"])
    sizes = [file.stat().st_size for file in path.iterdir() if file.name.split(".")[0] in ("stdout", "index")]
    assert record["stored_bytes"] == sum(sizes) <= MIB
    with opened(path) as reader:
        parts, told = fetch(reader.pieces(MIB))
    (hole,) = told
    assert isinstance(hole, Hole)
    text = b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    assert record["stdout_bytes"] == len(text)
    kept = joined(parts, 1)
    head = (path / segment_name("stdout", 0)).stat().st_size
    assert kept == text[:head] + text[head + hole.length :]
    assert len(kept) > MIB // 2


def test_without_a_cap_everything_is_kept(zygote: Zygote) -> None:
    record = zygote.run(["seq", "1000000"], log_cap=0)
    assert zygote.output(record["id"])[0] == b"".join(b"%d\n" % number for number in range(1, 1_000_001))


def test_a_hint_tells_of_new_groups(zygote: Zygote) -> None:
    """What all tasks together may store is looked after by the engine."""
    script = "while [ ! -e go ]; do sleep 0.01; done; seq 100000; exec sleep 600"
    task_id = zygote.sh(script, log_cap=MIB, cwd=str(zygote.directory))
    zygote.wait_for_hint(task_id)
    (zygote.directory / "go").touch()
    eventually(lambda: len(list(zygote.path(task_id).glob("index.*"))) > 1, "a second group")
    zygote.wait_for_hint(task_id)


def test_one_pipe_for_both_keeps_the_order(zygote: Zygote) -> None:
    code = "import os\nfor n in range(5000): os.write(1 + n % 2, b'%d\\n' % n)\n"
    record = zygote.run([sys.executable, "-I", "-S", "-c", code], merged=True)
    assert zygote.output(record["id"]) == (b"".join(b"%d\n" % number for number in range(5000)), b"")


def test_a_lock_says_that_the_disk_is_full(tight_zygote: Zygote) -> None:
    zygote = tight_zygote
    script = "while [ ! -e go ]; do sleep 0.01; done; seq 250000"  # 1.6 MB
    task_id = zygote.sh(script, cwd=str(zygote.directory))
    shim = zygote.shim(task_id)
    zygote.wait_for_hint(task_id)
    assert zygote.shim(task_id, NO_SPACE_BYTE) == 0
    (zygote.directory / "go").touch()
    zygote.wait_for_hint(task_id)
    eventually(lambda: zygote.shim(task_id, NO_SPACE_BYTE) == shim, "the lock that says so")
    assert zygote.shim(task_id, DISK_ERROR_BYTE) == 0
    subprocess.run(["mount", "-o", "remount,size=8m", zygote.directory], check=True)
    assert zygote.exit(task_id)["exit_code"] == 0
    assert zygote.shim(task_id, NO_SPACE_BYTE) == 0
    assert zygote.output(task_id)[0] == b"".join(b"%d\n" % n for n in range(1, 250001))


# Input


def give(zygote: Zygote, task_id: str, *segments: tuple[int, bytes], last: bool = False) -> None:
    """Store input as the front-end does, and have the shim look."""
    path = zygote.path(task_id)
    for offset, data in segments:
        with (path / segment_name("stdin", offset)).open("ab") as file:
            file.write(data)
    if last:
        (path / "stdin.end").touch()
    zygote.command(task_id, STDIN_COMMAND)


def test_input_reaches_the_task_and_ends(zygote: Zygote) -> None:
    task_id = zygote.start(["cat"], stdin=True)
    give(zygote, task_id, (0, b"one\n"))
    eventually(lambda: zygote.output(task_id)[0] == b"one\n", "the first line")
    give(zygote, task_id, (0, b"\0\xfftwo"))
    give(zygote, task_id, (9, b"three" * 100_000), (500_009, b"four"), last=True)
    assert zygote.exit(task_id)["exit_code"] == 0
    assert zygote.output(task_id)[0] == b"one\n\0\xfftwo" + b"three" * 100_000 + b"four"
    assert not [name for name in os.listdir(zygote.path(task_id)) if name.startswith("stdin")]


def test_input_that_was_read_is_removed(zygote: Zygote) -> None:
    task_id = zygote.start(["sh", "-c", "head -c 200000 >&2; exec sleep 600"], stdin=True)
    give(zygote, task_id, (0, b"a" * 100_000), (100_000, b"b" * 100_000), (200_000, b"c" * 100_000))
    path = zygote.path(task_id)
    eventually(lambda: not (path / segment_name("stdin", 0)).exists(), "the first segment to go")
    assert (path / segment_name("stdin", 200_000)).exists()
    zygote.signal(task_id)
    zygote.exit(task_id)
    assert not [name for name in os.listdir(path) if name.startswith("stdin")]


def test_a_task_that_does_not_read_is_none_the_worse(zygote: Zygote) -> None:
    task_id = zygote.sh("sleep 0.5; echo last; exec sleep 600", stdin=True)
    give(zygote, task_id, (0, b"x" * 1_000_000), last=True)
    eventually(lambda: zygote.output(task_id)[0] == b"last\n", "the last line")
    # It did not look again and again meanwhile.
    assert sum(psutil.Process(zygote.shim(task_id)).cpu_times()[:2]) < 0.2
    zygote.signal(task_id)
    assert zygote.exit(task_id)["signal"] == "SIGTERM"


def test_a_task_that_closes_its_input_is_marked(zygote: Zygote) -> None:
    task_id = zygote.start(["sh", "-c", "head -c 3; exec 0<&-; exec sleep 600"], stdin=True)
    give(zygote, task_id, (0, b"x" * 1_000_000))
    eventually((zygote.path(task_id) / "stdin.closed").exists, "the mark")
    zygote.signal(task_id)
    zygote.exit(task_id)


def test_a_task_whose_input_ends_at_once(zygote: Zygote) -> None:
    task_id = zygote.start(["cat"], stdin=True)
    give(zygote, task_id, last=True)
    assert zygote.exit(task_id)["exit_code"] == 0
    assert zygote.output(task_id) == (b"", b"")


def test_without_input_there_is_none(zygote: Zygote) -> None:
    assert zygote.output(zygote.run(["cat"])["id"]) == (b"", b"")


def test_input_that_came_before_the_shim_is_not_forgotten(zygote: Zygote) -> None:
    """Nobody listened then, so nobody was told."""
    task_id = zygote.prepare(["cat"], stdin=True)
    (zygote.path(task_id) / segment_name("stdin", 0)).write_bytes(b"early")
    (zygote.path(task_id) / "stdin.end").touch()
    zygote.ask(task_id)
    assert zygote.exit(task_id)["exit_code"] == 0
    assert zygote.output(task_id)[0] == b"early"


def test_input_that_cannot_be_read_burns_no_processor(zygote: Zygote) -> None:
    """The FIFO was full when it happened, so it has room for ever after."""
    task_id = zygote.sh("sleep 0.3; head -c 100000; sleep 0.5; echo end; exec sleep 600", stdin=True)
    # A directory where a segment should be: EISDIR, as good as a broken disk.
    (zygote.path(task_id) / segment_name("stdin", 100_000)).mkdir()
    give(zygote, task_id, (0, b"x" * 100_000))
    eventually(lambda: zygote.output(task_id)[0] == b"x" * 100_000 + b"end\n", "what can be read, and half a second")
    assert sum(psutil.Process(zygote.shim(task_id)).cpu_times()[:2]) < 0.25
    zygote.signal(task_id)
    assert zygote.exit(task_id)["signal"] == "SIGTERM"
