"""The pipe between front-end and engine: bytes in order, and each descriptor with its frame."""

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.errors import ProtocolError
from levity.protocol.frames import Frame, FrameDecoder, json_frame
from supervisor.ipc.frame_pipe import Pipe

Ends = tuple[Pipe, Pipe]


def make_ends() -> Ends:
    one, other = socket.socketpair()
    return Pipe(one.detach()), Pipe(other.detach())


@pytest.fixture
def ends() -> Iterator[Ends]:
    pair = make_ends()
    yield pair
    for one in pair:
        one.close()


def receive(pipe: Pipe) -> bytes:
    try:
        return pipe.receive()
    except BlockingIOError:
        return b""


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def named(text: str) -> int:
    """Return a descriptor that can be told from others."""
    fd = os.memfd_create(text)
    os.write(fd, text.encode())
    return fd


def name_of(fd: int) -> str:
    text = os.pread(fd, 100, 0).decode()
    os.close(fd)
    return text


STEPS = st.tuples(st.integers(0, 3000), st.booleans(), st.booleans(), st.booleans())


@given(st.lists(STEPS, max_size=25))
def test_descriptors_come_with_the_frames_that_speak_of_them(steps: list[tuple[int, bool, bool, bool]]) -> None:
    """Each step: how long a frame is, whether a descriptor goes with it, and whether it is sent, and read, at once."""
    before = open_descriptors()
    here, there = make_ends()
    decoder = FrameDecoder()
    found: list[tuple[int, str]] = []

    def read() -> bool:
        data = receive(there)
        decoder.feed(data)
        while isinstance(frame := decoder.next_frame(), Frame):
            has_fd, length = frame.body[:1] == b"y", len(frame.body) - 1
            found.append((length, name_of(there.take_descriptor()) if has_fd else ""))
        return bool(data)

    for number, (length, has_fd, is_sent, is_read) in enumerate(steps):
        here.put(json_frame(b"ny"[has_fd : has_fd + 1] + b"x" * length), named(f"{number}") if has_fd else -1)
        if is_sent:
            here.flush()
        if is_read:
            read()
    while here.outbox_bytes:
        here.flush()
        read()
    while read():
        pass
    here.close()
    there.close()
    assert found == [(step[0], f"{number}" if step[1] else "") for number, step in enumerate(steps)]
    assert open_descriptors() == before


def test_descriptors_that_are_not_sent_or_not_taken_are_closed(ends: Ends) -> None:
    here, there = ends
    before = open_descriptors()
    here.put(b"x", named("sent"))
    here.flush()
    here.put(b"y", named("unsent"))
    assert receive(there) == b"x"
    here.close()
    there.close()
    assert open_descriptors() == before - 2


def test_descriptors_that_nothing_is_said_of_end_it(ends: Ends) -> None:
    here, there = ends

    def flood() -> None:
        for _ in range(1000):
            here.put(b"x", named("more"))
            here.flush()
            there.receive()

    with pytest.raises(ProtocolError, match="nothing is said of"):
        flood()


def test_a_frame_larger_than_the_pipe_takes_several_turns(ends: Ends) -> None:
    here, there = ends
    frame = os.urandom(4_000_000)
    here.put(frame, named("first"))
    came = b""
    while len(came) < len(frame):
        here.flush()
        came += receive(there)
    assert came == frame
    assert here.outbox_bytes == 0
    assert name_of(there.take_descriptor()) == "first"


def test_the_end_of_it(ends: Ends) -> None:
    here, there = ends
    here.put(b"x")
    here.flush()
    here.close()
    assert (there.receive(), there.receive()) == (b"x", b"")
    there.put(b"y")
    with pytest.raises(OSError, match=r"[Pp]ipe"):
        there.flush()


def test_a_descriptor_that_is_lost_ends_it() -> None:
    """The next one would be taken for it. Here two come at once; else this process may have no more."""
    one, other = socket.socketpair()
    pipe = Pipe(other.detach())
    fds = [named("one"), named("two")]
    socket.send_fds(one, [b"x"], fds)
    with pytest.raises(ProtocolError, match="lost"):
        pipe.receive()
    pipe.close()
    one.close()
    for fd in fds:
        os.close(fd)
