"""Changes in a directory reach every watch that is armed, once, and no other."""

import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.hostos import inotify as inotify_module
from supervisor.hostos.inotify import Inotify, Watch


@pytest.fixture(scope="module")
def inotify() -> Inotify:
    """One for all tests: its thread ends with the process."""
    one = Inotify()
    with one.watch("/") as watch:
        assert watch.arm()
    return one


@pytest.fixture
def watch(inotify: Inotify, tmp_path: Path) -> Iterator[Watch]:
    with inotify.watch(str(tmp_path)) as one:
        yield one


def is_told(watch: Watch, timeout_s: float = 5.0) -> bool:
    poller = select.poll()
    poller.register(watch.fd, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


@pytest.mark.parametrize("event", ["create", "write", "rename", "remove", "append"])
def test_every_kind_of_change_is_told(watch: Watch, tmp_path: Path, event: str) -> None:
    (tmp_path / "there").write_bytes(b"x")
    assert watch.arm()
    if event == "create":
        os.close(os.open(tmp_path / "new", os.O_CREAT | os.O_WRONLY))
    elif event == "write":
        (tmp_path / "there").write_bytes(b"y")
    elif event == "append":
        with (tmp_path / "there").open("ab") as file:
            file.write(b"y")
    elif event == "rename":
        os.rename(tmp_path / "there", tmp_path / "then")
    else:
        os.unlink(tmp_path / "there")
    assert is_told(watch)


def test_it_is_told_once_and_only_after_arming(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert not is_told(watch, 0)
    assert watch.arm()
    assert watch.arm()  # A second time changes nothing.
    (tmp_path / "b").touch()
    assert is_told(watch)
    watch.clear()
    (tmp_path / "c").touch()
    assert not is_told(watch, 0)
    assert watch.arm()
    (tmp_path / "d").touch()
    assert is_told(watch)


def test_all_who_wait_are_told(inotify: Inotify, tmp_path: Path) -> None:
    with inotify.watch(str(tmp_path)) as one, inotify.watch(str(tmp_path)) as two, inotify.watch("/") as other:
        for watch in (one, two, other):
            assert watch.arm()
        (tmp_path / "a").touch()
        assert is_told(one)
        assert is_told(two)
        assert not is_told(other, 0)


def test_nothing_is_left_of_a_watch_that_is_closed(inotify: Inotify, tmp_path: Path) -> None:
    def kernel_watches() -> int:
        return Path(f"/proc/self/fdinfo/{inotify._fd}").read_text().count("inotify wd:")

    before = kernel_watches()
    with inotify.watch(str(tmp_path)) as one, inotify.watch(str(tmp_path)) as two:
        one.arm()
        two.arm()
        assert kernel_watches() == before + 1
        one.close = lambda: None  # type: ignore[method-assign]
        inotify.disarm(one)
        (tmp_path / "a").touch()
        assert is_told(two)
        assert not is_told(one, 0)
        two.arm()
    assert kernel_watches() == before
    assert not inotify._armed
    os.close(one.fd)


def test_a_directory_that_is_not_there(inotify: Inotify, tmp_path: Path) -> None:
    with inotify.watch(str(tmp_path / "none")) as watch:
        assert not watch.arm()


def test_a_removed_directory_is_told(inotify: Inotify, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with inotify.watch(str(tmp_path / "here")) as watch:
        assert watch.arm()
        (tmp_path / "here").rmdir()
        assert is_told(watch)


def test_a_host_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify_module, "inotify_open", lambda: -1)
    with Inotify().watch(str(tmp_path)) as watch:
        assert not watch.arm()


def test_an_overflow_is_told_to_all(inotify: Inotify, tmp_path: Path) -> None:
    with inotify.watch(str(tmp_path)) as watch:
        assert watch.arm()
        inotify._tell({-1})
        assert is_told(watch, 0)


def test_a_thread_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Inotify().watch(str(tmp_path)) as watch, monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not watch.arm()
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with Inotify().watch(str(tmp_path)) as watch:
            assert not watch.arm()
            assert watch._inotify._fd == -2
    assert len(os.listdir("/proc/self/fd")) == before
