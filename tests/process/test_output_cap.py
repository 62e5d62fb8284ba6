"""Which output of a task is kept, in which order, and how a shim says that it waits for the disk."""

import subprocess
import sys

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
