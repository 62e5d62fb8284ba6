"""The server where descriptors run out: it waits instead of spinning, and leaves some to those who are in already."""

import errno
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from supervisor.frontend.server import Server
from supervisor.frontend.shared import Shared

# Sessions only keep it until they run.
SERVICES = cast(Shared, None)
PAUSE_S = 0.1


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


@pytest.fixture
def client(listener: socket.socket) -> Iterator[socket.socket]:
    with socket.create_connection(listener.getsockname(), 10) as one:
        yield one


def lowest_free() -> int:
    """Return the number that the next descriptor gets."""
    fd = os.dup(0)
    os.close(fd)
    return fd


@contextmanager
def limited_to(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def check_pause(server: Server) -> None:
    before = time.monotonic()
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        server.get_request()
    assert time.monotonic() - before >= PAUSE_S


def test_without_a_descriptor_it_pauses_and_the_connection_waits(
    listener: socket.socket, client: socket.socket
) -> None:
    server = Server(listener, SERVICES)
    with limited_to(lowest_free()):
        check_pause(server)
    session, address = server.get_request()
    assert address == client.getsockname()
    session.close()


def test_the_last_descriptors_are_for_those_who_are_in(listener: socket.socket, client: socket.socket) -> None:
    with limited_to(lowest_free() + 1):
        check_pause(Server(listener, SERVICES))
    assert client.recv(1) == b""


def test_no_connection_to_accept_is_no_reason_to_pause(listener: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        Server(listener, SERVICES).get_request()
