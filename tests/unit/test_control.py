"""What arbiter and children say to each other: it comes as it was said, and nobody waits for anybody."""

import multiprocessing
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.protocol.frames import STRANGER_FRAME_LIMIT, json_frame
from supervisor.arbiter.children import Child
from supervisor.control import Control


@pytest.fixture
def ends() -> Iterator[tuple[Control, socket.socket]]:
    """One end, and the bare socket of the other."""
    ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=True)
    control, other = Control(ours), socket.socket(fileno=os.dup(theirs.fileno()))
    theirs.close()
    other.settimeout(10)
    yield control, other
    control.close()
    other.close()


def test_words_come_as_they_were_said_with_their_descriptors(ends: tuple[Control, socket.socket]) -> None:
    control, other = ends
    socket.send_fds(other, [json_frame(b'{"do":"peer"}') + json_frame(b'{"do":"ping"}')], [other.fileno()])
    assert control.wait() == {"do": "peer"}
    with socket.socket(fileno=control.take_descriptor()) as got:
        assert os.path.sameopenfile(got.fileno(), other.fileno())
    assert control.wait() == {"do": "ping"}
    assert control.take_descriptor() == -1
    other.close()
    assert control.wait() == {}


@given(st.data())
def test_half_a_word_is_not_waited_for(data: st.DataObject) -> None:
    frame = json_frame(b'{"pong":true}')
    cut = data.draw(st.integers(1, len(frame) - 1))
    ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=True)
    control = Control(ours)
    with theirs:
        assert control.receive() == []
        os.write(theirs.fileno(), frame[:cut])
        assert control.receive() == []
        os.write(theirs.fileno(), frame[cut:] + frame[:cut])
        assert control.receive() == [{"pong": True}]
    with pytest.raises(EOFError):
        control.receive()
    control.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 5,
        bytes(5),
        (STRANGER_FRAME_LIMIT + 1).to_bytes(4, "big"),
        json_frame(b"x"),
        json_frame(b"[]"),
        json_frame(b'{"x":' + b"[" * 5000),
    ],
)
def test_what_nobody_of_ours_says_is_the_end(ends: tuple[Control, socket.socket], data: bytes) -> None:
    control, other = ends
    other.sendall(data)
    with pytest.raises(EOFError):
        control.receive()


def test_a_hail_of_descriptors_is_the_end_and_they_are_closed(ends: tuple[Control, socket.socket]) -> None:
    control, other = ends

    def take_all() -> None:
        while control.receive() == []:
            socket.send_fds(other, [b"\0"], [other.fileno()] * 20)

    with pytest.raises(EOFError):
        take_all()


class Process:
    """What is started, as far as Child ends it."""

    def __init__(self) -> None:
        self.is_killed = False

    def kill(self) -> None:
        self.is_killed = True


def test_a_child_that_does_not_listen_is_ended_and_keeps_nobody_waiting(ends: tuple[Control, socket.socket]) -> None:
    child, process = Child("deaf", lambda _control, _pipe: None), Process()
    child.control, child.process = ends[0], process  # type: ignore[assignment]
    for _ in range(10_000):
        child.ping()
        if process.is_killed:
            break
    assert process.is_killed
