"""A front-end that is taken over: a test has its descriptors, and sends engine and arbiter what it likes.

Owns: those descriptors.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from levity.protocol.frames import Frame, json_frame
from levity.protocol.messages import request_body
from supervisor.ipc.envelope import Envelope, envelope_decoder, envelope_frame, open_envelope
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.paths import ROOT

__all__ = ["Impostor", "replaced", "taken_over", "weak_command"]

PATIENCE_S = 15.0
# The front-end of such a levityd asks a test, if there is one that listens, whether it shall serve or be taken over.
# The name is abstract, for where levityd is root its front-end can open no file.
_CODE = """
import os, signal, socket, sys
sys.path.insert(0, {root!r})
from supervisor.frontend import main
serve = main._serve

def give_in(control, pipe, listener, access):
    taker = socket.socket(socket.AF_UNIX)
    try:
        taker.connect(chr(0) + os.environ["TEST_LEVITYD_MARK"])
    except ConnectionRefusedError:
        serve(control, pipe, listener, access)
        return
    control.send("ready")
    socket.send_fds(taker, [b"x"], [control.fileno(), pipe.fileno(), listener.fileno()])
    while order := taker.recv(1):
        if order == b"f" and os.fork() == 0:
            break
    while True:
        signal.pause()

main._serve = give_in
from supervisor.arbiter.main import main
sys.exit(main())
"""


def weak_command() -> list[str]:
    """Return a levityd command whose front-ends can be `taken_over`."""
    return [sys.executable, "-I", "-c", _CODE.format(root=str(ROOT))]


class Impostor:
    """What such a front-end has: `pipe` to the engine, `control` to the arbiter, the `listener`."""

    def __init__(self, taker: socket.socket, descriptors: Sequence[int], pid: int) -> None:
        self.pid = pid
        self._taker = taker
        self.control, self.pipe, self.listener = (socket.socket(fileno=fd) for fd in descriptors)
        for sock in (self.control, self.pipe, self.listener):
            sock.settimeout(PATIENCE_S)
        self._decoder = envelope_decoder()
        self._numbers = iter(range(1, 10**9))

    def close(self) -> None:
        """Close all of it, which the process that was taken over holds as well."""
        for sock in (self.control, self.pipe, self.listener, self._taker):
            sock.close()

    def fork(self) -> None:
        """Have the process that was taken over leave a child, with all that it has."""
        self._taker.send(b"f")

    def say(self, **word: object) -> None:
        """Say something to the arbiter."""
        self.control.sendall(json_frame(json.dumps(word).encode()))

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send bytes to the engine, and descriptors with the first of them; a pipe that is closed is an answer, too."""
        try:
            if descriptors:
                data = data[socket.send_fds(self.pipe, [data], list(descriptors)) :]
            self.pipe.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def reply(self) -> tuple[int, dict[str, Any]]:
        """Return the engine's next reply and its number, without its descriptors; {} when it has hung up."""
        while not isinstance(frame := self._decoder.next_frame(), Frame):
            try:
                data, descriptors, _flags, _address = socket.recv_fds(self.pipe, 65536, 8)
            except ConnectionResetError:
                return 0, {}
            for fd in descriptors:
                os.close(fd)
            if not data:
                return 0, {}
            self._decoder.feed(data)
        envelope = open_envelope(frame.body)
        message = json.loads(envelope.body)
        assert isinstance(message, dict)
        assert envelope.do == "reply"
        assert envelope.error == message.get("error", {}).get("code")
        return envelope.number, message

    def ask(
        self,
        method: str,
        params: dict[str, Any],
        ticket: str = "",
        descriptors: Sequence[int] = (),
        *,
        fd: bool = False,
        do: str = "ask",
    ) -> dict[str, Any]:
        """Ask the engine and return its reply; `fd` says that a descriptor comes, whatever does.

        With `do="pass"` it is asked as if a client had sent the request.
        """
        number = next(self._numbers)
        envelope = Envelope(do, number, request_body("id", method, params), ticket=ticket)
        self.send(envelope_frame(envelope, has_fd=fd or bool(descriptors)), descriptors)
        answered, message = self.reply()
        assert answered == number, message
        assert message["id"] == "id"
        return message

    @contextmanager
    def visitor(self) -> Iterator[socket.socket]:
        """Connect as a client does, and accept that connection."""
        address = self.listener.getsockname()
        with socket.socket(self.listener.family) as client:
            client.settimeout(PATIENCE_S)
            client.connect(address)
            accepted = self.listener.accept()[0]
            with accepted:
                yield accepted

    def ticket(self) -> str:
        """Return the ticket of the test's own user, who connects over the unix socket."""
        with self.visitor() as accepted:
            reply = self.ask("auth.peer", {"peer": "x"}, descriptors=[accepted.fileno()])
        return str(reply["result"]["ticket"])


@contextmanager
def taken_over(daemon: Daemon, between: Callable[[], object] = lambda: None) -> Iterator[Impostor]:
    """Have the next front-end of a levityd that was made with `weak_command` be the test's, until it is killed.

    `between` the two of them, `between()` is called.
    """
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"\0{daemon.mark}")
        door.listen()
        door.settimeout(PATIENCE_S)
        daemon.kill("front-end")
        between()
        taker, _address = door.accept()
    _data, descriptors, _flags, _address = socket.recv_fds(taker, 1, 3)
    impostor = Impostor(taker, descriptors, daemon.pid_of("front-end"))
    pidfd = os.pidfd_open(impostor.pid)
    try:
        yield impostor
    finally:
        impostor.close()
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # It has been replaced already.
        os.close(pidfd)


def replaced(daemon: Daemon, impostor: Impostor) -> int:
    """Wait until the front-end is another one, and return its pid."""

    def another() -> int:
        pid = daemon.pid_of("front-end")
        assert pid != impostor.pid
        return pid

    return eventually(another, "another front-end")
