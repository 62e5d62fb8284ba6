"""Files that are opened without following a link, written whole and made durable."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.hostos import files
from supervisor.hostos.descriptors import drain, self_pipe, signal_pipe
from supervisor.hostos.locks import open_lock, try_lock


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = files.open_directory(str(tmp_path))
    yield fd
    os.close(fd)


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_by_one_that_was_written_before(directory: int, tmp_path: Path, *, durable: bool) -> None:
    for data in (b"first and long", b"second"):
        files.write_file("file.tmp", directory, data, durable=durable)
        files.put_in_place("file.tmp", "file", directory, durable=durable)
        assert (tmp_path / "file").read_bytes() == data
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").stat().st_mode & 0o7777 == 0o600


def test_leftovers_of_an_interrupted_write_are_overwritten(directory: int, tmp_path: Path) -> None:
    (tmp_path / "file.tmp").write_bytes(b"half of something longer")
    files.write_file("file.tmp", directory, b"whole", durable=False)
    assert (tmp_path / "file.tmp").read_bytes() == b"whole"


def test_a_new_file_is_not_written_over_another(directory: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.write_file("file", directory, b"new", durable=False, is_new=True)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_write_is_told_when_the_disk_is_full(directory: int) -> None:
    os.symlink("/dev/full", "full", dir_fd=directory)
    with pytest.raises(OSError, match="symbolic link"):
        files.write_file("full", directory, b"x", durable=False)
    full = files.open_directory("/dev")
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            files.write_file("full", full, b"x", durable=False)
    finally:
        os.close(full)


def test_a_durable_write_was_synced(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2]))
    files.write_file("a", directory, b"x", durable=False)
    files.put_in_place("a", "b", directory, durable=False)
    assert synced == []
    files.write_file("a", directory, b"x", durable=True)
    assert synced == ["a"]
    files.put_in_place("a", "b", directory, durable=True)
    files.sync_path("b", directory)
    files.sync_path(".", directory)
    assert synced[2:] == ["b", synced[1]]
    assert len(synced) == 4


def test_links_are_not_followed(directory: int, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "directory").symlink_to("real")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="directory"):
        files.open_directory("directory", directory)
    for refused in (files.open_to_read, files.make_mark, open_lock):
        with pytest.raises(OSError, match="symbolic link"):
            refused("link", directory)


def test_a_fifo_in_place_of_a_file_does_not_block(directory: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.close(files.open_to_read("fifo", directory))


def test_a_mark_may_be_made_twice(directory: int, tmp_path: Path) -> None:
    files.make_mark("mark", directory)
    (tmp_path / "mark").write_bytes(b"something")
    files.make_mark("mark", directory, 0o640)
    assert (tmp_path / "mark").read_bytes() == b"something"


def test_a_lock_file_is_made_if_it_may_be(directory: int, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_lock("lock", directory, create=False)
    fd = open_lock("lock", directory)
    try:
        assert try_lock(fd)
        os.close(open_lock("lock", directory, create=False))
        assert (tmp_path / "lock").stat().st_mode & 0o7777 == 0o600
    finally:
        os.close(fd)


# Self-pipes


def test_neither_end_of_a_self_pipe_blocks() -> None:
    read_end, write_end = self_pipe()
    try:
        drain(read_end)
        assert os.write(write_end, b"x" * 65536) == 65536
        with pytest.raises(BlockingIOError):
            os.write(write_end, b"x")
        drain(read_end)
        with pytest.raises(BlockingIOError):
            os.read(read_end, 1)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_signal_is_told_in_a_pipe_even_when_that_is_full(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
    read_end, write_end = signal_pipe()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert os.read(read_end, 10) == bytes([signal.SIGUSR1])
        os.write(write_end, b"x" * 65536)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert capfd.readouterr().err == ""
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, before)
        os.close(read_end)
        os.close(write_end)
