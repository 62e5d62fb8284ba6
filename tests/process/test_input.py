"""A task's input: what its shim feeds to it, and what is left of it."""

import os

import psutil

from supervisor.spool.commands import STDIN
from supervisor.spool.layout import segment_name
from tests.support.deadline import eventually
from tests.support.zygote import Zygote


def give(zygote: Zygote, task_id: str, *segments: tuple[int, bytes], last: bool = False) -> None:
    """Store input as the front-end does, and have the shim look."""
    path = zygote.path(task_id)
    for offset, data in segments:
        with (path / segment_name("stdin", offset)).open("ab") as file:
            file.write(data)
    if last:
        (path / "stdin.end").touch()
    zygote.command(task_id, STDIN)


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
    """The control FIFO had no reader then, so no command told the shim."""
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
