"""From the pipes to the spool: the order, a disk that refuses, the last bytes. With a clock that the test turns."""

import fcntl
import os
import resource
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.hostos.locks import lock_holder
from supervisor.shim.hint import Hint
from supervisor.shim.output_pump import OutputPump, available
from supervisor.shim.termination import Action, Event, State, Termination
from supervisor.spool.layout import DISK_ERROR_BYTE, NO_SPACE_BYTE
from tests.support.spool import fetch, joined, opened

MIB = 1024 * 1024


class CountedHint(Hint):
    """A hint that notes when it is sent, and goes nowhere."""

    def __init__(self) -> None:
        self.sent_at: list[float] = []
        self.retry_at = None

    def send(self, now: float) -> None:
        self.sent_at.append(now)


class Bench:
    """A pump between two pipes and a directory. `now` is the time."""

    def __init__(self, directory: Path, look: Callable[[int], int] = available, log_cap: int = 0) -> None:
        self.directory = directory
        self.now = 1000.0
        self.hint = CountedHint()
        self.termination = Termination(10.0)
        self.poller = select.poll()
        self.out, self.err = os.pipe(), os.pipe()
        self.directory_fd = os.open(directory, os.O_RDONLY)
        self.lock_fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT)
        ends = (self.out[0], self.err[0])
        for fd in ends:
            self.poller.register(fd, select.POLLIN)
        self.pump = OutputPump(
            (self.directory_fd, self.lock_fd),
            ends,
            lambda: log_cap,
            self.poller,
            self.hint,
            self.termination,
            clock=lambda: self.now,
            available=look,
        )

    def ready(self) -> list[int]:
        return [fd for fd, _events in self.poller.poll(0)]

    def stored(self) -> tuple[bytes, bytes]:
        with opened(self.directory) as reader:
            parts, _told = fetch(reader.pieces(MIB))
        return joined(parts, 1), joined(parts, 2)

    def held(self, byte: int) -> bool:
        """Whether the lock's byte is taken, as another process sees it."""
        pid = os.fork()
        if pid == 0:
            os._exit(int(lock_holder(os.open(self.directory / "lock", os.O_RDWR), byte) > 0))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1

    def close(self) -> None:
        for fd in (*self.out, *self.err, self.directory_fd, self.lock_fd, *self.pump.writer._files.values()):
            try:
                os.close(fd)
            except OSError:
                pass  # The pump closed it.


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    found.close()


@contextmanager
def full_disk(limit: int = 0) -> Iterator[None]:
    """Let no file grow beyond so many bytes (EFBIG); Python ignores SIGXFSZ."""
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_came_to_the_other_pipe_later_is_read_later(tmp_path: Path) -> None:
    """The moment at which only stdout had something is made: in real life it is there for microseconds."""

    def look(fd: int) -> int:
        amount = available(fd)
        while later:
            os.write(*later.pop(0))
        return amount

    bench = Bench(tmp_path, look)
    try:
        later = [(bench.err[1], b"err"), (bench.out[1], b"two")]
        os.write(bench.out[1], b"one")
        bench.pump.read([bench.out[0]])
        bench.pump.read([bench.out[0]])
        with opened(tmp_path, exact=True) as reader:
            parts, _told = fetch(reader.pieces(100))
        assert [part[:2] for part in parts] == [(1, b"one"), (2, b"err"), (1, b"two")]
    finally:
        bench.close()


def test_a_stream_that_has_ended_is_not_waited_for(bench: Bench) -> None:
    os.write(bench.err[1], b"last")
    for end in (bench.out[1], bench.err[1]):
        os.close(end)
    done = [bench.pump.is_done]
    while bench.ready():
        bench.pump.read(bench.ready())
        done.append(bench.pump.is_done)
    assert not any(done[:-1])
    assert done[-1]
    assert bench.stored() == (b"", b"last")


def test_a_disk_that_refuses_stops_the_reading_until_it_takes_the_same_bytes(bench: Bench) -> None:
    os.write(bench.out[1], b"first")
    with full_disk():
        bench.pump.read(bench.ready())
        assert bench.pump.writer.is_blocked
        retries = [bench.pump.retry_at]
        os.write(bench.out[1], b"second")
        assert bench.ready() == []
        assert (bench.held(DISK_ERROR_BYTE), bench.held(NO_SPACE_BYTE)) == (True, False)
        bench.now = 1000.25
        bench.pump.retry()
        retries.append(bench.pump.retry_at)
    assert bench.hint.sent_at == [1000.0]
    bench.now = 1000.5
    bench.pump.retry()
    assert [*retries, bench.pump.retry_at] == [1000.25, 1000.5, None]
    assert not bench.held(DISK_ERROR_BYTE)
    assert bench.hint.sent_at == [1000.0, 1000.5]
    bench.pump.read(bench.ready())
    assert bench.stored() == (b"firstsecond", b"")


def test_outsiders_get_their_time_again_when_the_disk_takes_output(bench: Bench) -> None:
    os.write(bench.out[1], b"first")
    with full_disk():
        bench.pump.read(bench.ready())
        bench.termination.on(Event.TREE_GONE, 1001.0)
    bench.now = 1005.0
    bench.pump.retry()
    assert bench.termination.deadline == 1015.0


def test_new_groups_are_told_of_now_and_then(tmp_path: Path) -> None:
    bench = Bench(tmp_path, log_cap=MIB)
    try:
        for _ in range(20):
            os.write(bench.out[1], b"x" * 65536)
            bench.pump.read(bench.ready())
        assert bench.pump.writer.rotations > 5
        assert bench.hint.sent_at == [1000.0]
        bench.now = 1001.0
        for _ in range(2):
            os.write(bench.out[1], b"x" * 65536)
            bench.pump.read(bench.ready())
        assert bench.hint.sent_at == [1000.0, 1001.0]
    finally:
        bench.close()


def sealed(bench: Bench) -> None:
    bench.termination.on(Event.TREE_GONE, bench.now)
    bench.now += 10.0
    assert bench.termination.tick(bench.now) is Action.SEAL
    bench.pump.seal()


def test_the_last_bytes_are_read_and_what_an_outsider_holds_open_is_cut(bench: Bench) -> None:
    os.write(bench.out[1], b"out")
    os.write(bench.err[1], b"err")
    os.close(bench.err[1])
    sealed(bench)
    assert bench.pump.is_done
    assert bench.termination.was_cut
    assert bench.stored() == (b"out", b"err")


def test_pipes_that_no_process_holds_open_are_not_cut(bench: Bench) -> None:
    os.write(bench.out[1], b"out")
    for end in (bench.out[1], bench.err[1]):
        os.close(end)
    sealed(bench)
    assert bench.pump.is_done
    assert not bench.termination.was_cut
    assert bench.stored() == (b"out", b"")


def test_last_bytes_that_the_disk_refuses_are_read_later(bench: Bench) -> None:
    os.write(bench.out[1], b"out")
    os.write(bench.err[1], b"err")
    with full_disk():
        sealed(bench)
    first = bench.pump.is_done
    assert bench.termination.state is State.DRAINING
    bench.pump.retry()
    bench.now += 10.0
    assert bench.termination.tick(bench.now) is Action.SEAL
    bench.pump.seal()
    assert (first, bench.pump.is_done) == (False, True)
    assert bench.termination.was_cut
    assert bench.stored() == (b"out", b"err")


def test_a_directory_that_is_gone_ends_the_shim(bench: Bench) -> None:
    os.unlink(bench.directory / "lock")
    os.rmdir(bench.directory)
    os.write(bench.out[1], b"out")
    with pytest.raises(FileNotFoundError):
        bench.pump.read(bench.ready())


def test_a_pipe_that_its_task_has_made_larger_is_read_whole(bench: Bench) -> None:
    """Reading a full pipe raises the size of later reads, meanwhile."""
    fcntl.fcntl(bench.out[1], fcntl.F_SETPIPE_SZ, MIB)
    os.set_blocking(bench.out[1], False)
    assert os.write(bench.out[1], b"x" * MIB) == MIB
    sealed(bench)
    assert bench.pump.writer.ends[1] == MIB
