"""From the spool to the task's standard input: what the poller waits for, and a disk that cannot be read."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.shim.stdin_pump import StdinPump
from supervisor.spool.layout import STDIN, STDIN_CLOSED, STDIN_END, segment_name


class Bench:
    """A pump between a directory and a pipe. `now` is the time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 1000.0
        self.poller = select.poll()
        self.directory_fd = os.open(directory, os.O_RDONLY)
        self.read_end, self.write_end = os.pipe()
        self.pump = StdinPump(self.directory_fd, self.write_end, self.poller, lambda: self.now)

    def segment(self, offset: int) -> Path:
        return self.directory / segment_name(STDIN, offset)

    def ready(self) -> list[int]:
        return [fd for fd, _events in self.poller.poll(0)]

    def close(self) -> None:
        for fd in (self.directory_fd, self.read_end, self.write_end, self.pump._segment):
            try:
                os.close(fd)
            except OSError:
                pass  # The pump closed it, or the test.


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    found.close()


def test_the_poller_waits_for_the_task_only_while_the_pipe_is_full(bench: Bench) -> None:
    bench.segment(0).write_bytes(b"x" * 100_000)
    bench.pump.pump()
    assert bench.ready() == []
    assert len(os.read(bench.read_end, 1 << 16)) == 1 << 16
    assert bench.ready() == [bench.write_end]
    bench.pump.pump()
    assert bench.ready() == []
    assert len(os.read(bench.read_end, 1 << 16)) == 100_000 - (1 << 16)
    assert bench.ready() == []


def test_a_disk_that_cannot_be_read_is_tried_again_later(bench: Bench) -> None:
    bench.segment(0).symlink_to("elsewhere")  # ELOOP, as good as a broken disk.
    bench.pump.pump()
    tried = [bench.pump.retry_at]
    bench.now = 1000.25
    bench.pump.pump()
    tried.append(bench.pump.retry_at)
    bench.segment(0).unlink()
    bench.segment(0).write_bytes(b"late")
    bench.pump.pump()
    assert [*tried, bench.pump.retry_at] == [1000.25, 1000.5, None]
    assert os.read(bench.read_end, 100) == b"late"


def test_the_pipe_is_closed_once_all_input_is_written(bench: Bench) -> None:
    bench.segment(0).write_bytes(b"all")
    bench.pump.pump()
    before = bench.pump.fd
    (bench.directory / STDIN_END).touch()
    bench.pump.pump()
    assert (before, bench.pump.fd) == (bench.write_end, -1)
    assert os.read(bench.read_end, 100) == b"all"
    assert os.read(bench.read_end, 100) == b""
    bench.pump.pump()


def test_a_task_that_closed_its_input_is_marked(bench: Bench) -> None:
    bench.segment(0).write_bytes(b"x" * 100_000)
    bench.pump.pump()
    os.close(bench.read_end)
    assert bench.ready() == [bench.write_end]
    bench.pump.pump()
    assert (bench.directory / STDIN_CLOSED).exists()
    assert bench.ready() == []
