"""A front-end that an attacker has taken over: no message of it moves the arbiter, which replaces it."""

import os
import signal
import struct
from collections.abc import Iterator

import psutil
import pytest

from levity.protocol.frames import json_frame
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.impostor import replaced, taken_over, weak_command
from tests.support.tasks import client_of


def goes_on(daemon: Daemon) -> None:
    """See that the arbiter is not at something else: a child that is killed is replaced."""
    killed = daemon.kill("engine")
    eventually(lambda: daemon.pid_of("engine") != killed, "another engine")


WORDS: list[dict[str, object]] = [
    {"do": "fatal", "reason": "x" * 5000},
    {"do": "stopped", "live": "many"},
    {"do": "stopped"},
    {"do": "replace_frontend"},
    {"do": "ready"},
    {"do": "pong"},
    {"do": "stop"},
    {"do": "dance", "fd": True},
    {"do": 7},
    # Without a verb, as they were before there were any.
    {"fatal": "x"},
    {"stopped": True},
    {"mistrust": True},
    {},
]


@pytest.fixture
def another() -> Iterator[Daemon]:
    """One whose engine may be killed."""
    one = Daemon(command=weak_command())
    try:
        yield one.start()
    finally:
        one.end()


def test_no_message_of_a_front_end_moves_the_arbiter(another: Daemon) -> None:
    arbiter, engine = another.pid, another.pid_of("engine")
    with taken_over(another) as impostor:
        for word in WORDS:
            impostor.say(**word)
        assert impostor.ticket()
        assert another.pid_of("front-end") == impostor.pid
        assert another.pid_of("engine") == engine
        goes_on(another)
        assert another.pid == arbiter
        assert another.stop() == 0


GARBLED = [json_frame(b'{"x":' + b"[" * 10_000), json_frame(b"\xff"), json_frame(b""), json_frame(b'["fatal"]')]


def test_no_garbled_message_moves_the_arbiter(another: Daemon) -> None:
    with taken_over(another) as impostor:
        for frame in GARBLED:
            impostor.control.sendall(frame)
        goes_on(another)
        assert another.pid_of("front-end") == impostor.pid


BROKEN = {
    "noise": b"\xff\xff\xff\xff\xff",
    "a huge length": struct.pack(">I", 2**31),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_front_end_whose_stream_is_broken_is_replaced(another: Daemon, name: str) -> None:
    with taken_over(another) as impostor:
        impostor.control.sendall(BROKEN[name])
        replaced(another, impostor)
        goes_on(another)


@pytest.mark.parametrize("cut", [1, 6])
def test_half_a_message_does_not_block_the_arbiter(another: Daemon, cut: int) -> None:
    with taken_over(another) as impostor:
        impostor.control.sendall(json_frame(b'{"do":"pong"}')[:cut])
        goes_on(another)
        assert impostor.pid == another.pid_of("front-end")


def test_a_front_end_that_leaves_a_child_with_all_it_has_is_replaced(another: Daemon) -> None:
    with taken_over(another) as impostor:
        impostor.fork()
        eventually(lambda: len(another.pids()["front-end"]) == 2, "a child of it")
        os.kill(impostor.pid, signal.SIGKILL)

        def another_one() -> bool:
            pids = another.pids()["front-end"]
            return any(psutil.Process(pid).ppid() == another.pid for pid in pids if pid != impostor.pid)

        eventually(another_one, "another front-end")
        # The child, too, has the listening socket, and accepts nothing.
        with client_of(another.address) as client:
            assert client.info()
        assert another.stop() == 0
