"""Messages between the arbiter and its children: they arrive as they were sent, and no side blocks the other."""

import multiprocessing
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.protocol.frames import UNAUTHENTICATED_FRAME_LIMIT, json_frame
from supervisor.arbiter.children import Child
from supervisor.ipc.control_channel import ControlChannel, Message


@pytest.fixture
def ends() -> Iterator[tuple[ControlChannel, socket.socket]]:
    """One end, and the bare socket of the other."""
    ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=True)
    control, other = ControlChannel(ours), socket.socket(fileno=os.dup(theirs.fileno()))
    theirs.close()
    other.settimeout(10)
    yield control, other
    control.close()
    other.close()


def verbs(messages: list[Message]) -> list[str]:
    return [message.verb for message in messages]


def test_messages_come_as_they_were_sent_with_their_descriptors(ends: tuple[ControlChannel, socket.socket]) -> None:
    control, other = ends
    frames = json_frame(b'{"do":"peer","fd":true}') + json_frame(b'{"do":"ping"}')
    socket.send_fds(other, [frames], [other.fileno()])
    message = control.wait()
    assert message is not None
    assert message.verb == "peer"
    with socket.socket(fileno=message.take_descriptor()) as got:
        assert os.path.sameopenfile(got.fileno(), other.fileno())
    message = control.wait()
    assert message is not None
    assert (message.verb, message.fd) == ("ping", -1)
    other.close()
    assert control.wait() is None


def test_a_message_that_is_sent_can_be_received(ends: tuple[ControlChannel, socket.socket]) -> None:
    ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=True)
    one, other = ControlChannel(ours), ControlChannel(theirs)
    one.send("stopped", live=3)
    one.send("peer", os.dup(ends[1].fileno()))
    stopped, peer = other.receive()
    assert (stopped.verb, stopped.values["live"], stopped.fd) == ("stopped", 3, -1)
    assert peer.verb == "peer"
    os.close(peer.take_descriptor())
    one.close()
    other.close()


@given(st.data())
def test_half_a_message_is_not_waited_for(data: st.DataObject) -> None:
    frame = json_frame(b'{"do":"pong"}')
    cut = data.draw(st.integers(1, len(frame) - 1))
    ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=True)
    control = ControlChannel(ours)
    with theirs:
        assert control.receive() == []
        os.write(theirs.fileno(), frame[:cut])
        assert control.receive() == []
        os.write(theirs.fileno(), frame[cut:] + frame[:cut])
        assert verbs(control.receive()) == ["pong"]
    with pytest.raises(EOFError):
        control.receive()
    control.close()


FOREIGN = [
    b'{"do":"dance"}',
    b'{"do":7}',
    b'{"do":["stop"]}',
    b'{"stop":true}',
    b'{"mistrust":true}',
    b"{}",
    b"[]",
    b"x",
    b"\xff",
    b"",
    b'{"x":' + b"[" * 5000,
]


@pytest.mark.parametrize("body", FOREIGN)
def test_a_message_that_is_not_known_changes_nothing(ends: tuple[ControlChannel, socket.socket], body: bytes) -> None:
    control, other = ends
    other.sendall(json_frame(body) + json_frame(b'{"do":"stop"}'))
    done: list[str] = []
    handlers = {verb: (lambda message: done.append(message.verb)) for verb in ("stop", "ping", "peer")}
    control.dispatch(control.receive(), handlers)
    assert done == ["stop"]


def test_the_descriptor_of_a_message_that_is_not_known_is_not_the_next_one_s(
    ends: tuple[ControlChannel, socket.socket],
) -> None:
    control, other = ends
    before = len(os.listdir("/proc/self/fd"))
    with open(os.devnull) as null:
        socket.send_fds(other, [json_frame(b'{"do":"dance","fd":true}')], [null.fileno()])
    socket.send_fds(other, [json_frame(b'{"do":"peer","fd":true}')], [other.fileno()])
    got: list[int] = []
    for _ in range(2):
        control.dispatch(control.receive(), {"peer": lambda message: got.append(message.take_descriptor())})
    with socket.socket(fileno=got[0]) as peer:
        assert os.path.sameopenfile(peer.fileno(), other.fileno())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 5, id="noise"),
        pytest.param(bytes(5), id="a length of nothing"),
        pytest.param((UNAUTHENTICATED_FRAME_LIMIT + 1).to_bytes(4, "big"), id="a length over the limit"),
    ],
)
def test_bytes_that_are_no_frames_end_the_channel(ends: tuple[ControlChannel, socket.socket], data: bytes) -> None:
    control, other = ends
    other.sendall(data)
    with pytest.raises(EOFError):
        control.receive()


def test_a_hail_of_descriptors_is_the_end_and_they_are_closed(ends: tuple[ControlChannel, socket.socket]) -> None:
    control, other = ends

    def take_all() -> None:
        while control.receive() == []:
            socket.send_fds(other, [b"\0"], [other.fileno()] * 20)

    with pytest.raises(EOFError):
        take_all()


def test_the_descriptors_before_a_break_of_the_stream_are_closed(ends: tuple[ControlChannel, socket.socket]) -> None:
    control, other = ends
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        socket.send_fds(other, [json_frame(b'{"do":"peer","fd":true}')], [other.fileno()])
    other.sendall(b"\xff" * 5)

    def receive_all() -> None:
        while True:
            control.dispatch(control.receive(), {})

    with pytest.raises(EOFError):
        receive_all()
    assert len(os.listdir("/proc/self/fd")) == before


class Process:
    """What is started, as far as Child ends it."""

    def __init__(self) -> None:
        self.is_killed = False

    def kill(self) -> None:
        self.is_killed = True


def test_a_child_that_does_not_listen_is_ended_and_blocks_no_other(
    ends: tuple[ControlChannel, socket.socket],
) -> None:
    child, process = Child("deaf", lambda _control, _pipe: None), Process()
    child.control, child.process = ends[0], process  # type: ignore[assignment]
    for _ in range(10_000):
        child.ping()
        if process.is_killed:
            break
    assert process.is_killed
