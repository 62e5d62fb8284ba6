"""A process that asks an engine as the front-end does, and the test that is that engine. Owns: the process."""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from levity.protocol.frames import Frame
from levity.protocol.messages import result_body
from supervisor.ipc.envelope import Envelope, carries_descriptor, envelope_decoder, envelope_frame, open_envelope
from tests.support.paths import ROOT

__all__ = ["AskingProcess"]

LIMIT_S = 15.0
# Each line that it reads is a request; the answer to it is a line, too.
_CODE = """
import itertools, json, os, socket, sys, threading
sys.path.insert(0, {root!r})
from levity.errors import LevityError
from levity.protocol.frames import FRAME_LIMIT
from levity.protocol.messages import request_body
from supervisor.frontend.engine_client import EngineClient
link = socket.socket(fileno=int(sys.argv[1]))
engine = EngineClient()

def connect():
    while descriptors := socket.recv_fds(link, 1, 1)[1]:
        engine.connect(descriptors[0])

threading.Thread(target=connect, daemon=True).start()
threading.Thread(target=engine.run, daemon=True).start()
for line in sys.stdin:
    how, text = json.loads(line)
    answer = ""
    try:
        if how == "pass":
            answer = engine.pass_on(text.encode(), 10, ticket="t").decode()
        elif how == "fetch":
            found, fd = engine.fetch(text, {{}}, 10)
            answer = [found, os.pread(fd, 100, 0).decode() if fd >= 0 else ""]
            if fd >= 0: os.close(fd)
        elif how == "grow":
            sizes = itertools.count(FRAME_LIMIT - len(request_body(None, text, {{"a": ""}})) - 1)
            answer = engine.call(text, lambda: {{"a": "x" * next(sizes)}}, 10)
        else:
            answer = engine.call(text, {{}}, 10)
    except LevityError as error:
        answer = [type(error).__name__, error.message]
    print(json.dumps(answer), flush=True)
"""


class AskingProcess:
    """Asks on demand: `ask` begins it, `request` is what comes of that, `reply` and `send` answer, `answer` ends it."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", _CODE.format(root=str(ROOT)), str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                text=True,
            )
        self.connect()

    def connect(self) -> None:
        """Give it the end of a new pipe."""
        self.pipe, theirs = socket.socketpair()
        self.pipe.settimeout(LIMIT_S)
        self._decoder = envelope_decoder()
        with theirs:
            socket.send_fds(self._link, [b"x"], [theirs.fileno()])

    def close(self) -> str:
        """End it and return what it wrote to standard error."""
        self.process.kill()
        self.pipe.close()
        self._link.close()
        return self.process.communicate()[1]

    def ask(self, how: str, text: str) -> None:
        """Have it ask: `pass` on a message, `call` or `fetch` a method; `grow`: with ever more bytes of parameters."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([how, text]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Return what its caller got."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def request(self) -> Envelope:
        """Return the next envelope that it sends."""
        while not isinstance(frame := self._decoder.next_frame(), Frame):
            data = self.pipe.recv(65536)
            assert data, "it has hung up"
            self._decoder.feed(data)
        assert not carries_descriptor(frame.body)
        return open_envelope(frame.body)

    def send(self, data: bytes, names: Sequence[str] = ()) -> None:
        """Send bytes, and files of these contents with the first of them."""
        fds = [os.memfd_create(name) for name in names]
        for fd, name in zip(fds, names, strict=True):
            os.write(fd, name.encode())
        try:
            data = data[socket.send_fds(self.pipe, [data], fds) :]
            self.pipe.sendall(data)
        finally:
            for fd in fds:
                os.close(fd)

    def reply(self, number: int, result: dict[str, Any], names: Sequence[str] = ()) -> None:
        """Answer one of its own requests."""
        envelope = Envelope("reply", number, result_body(None, result))
        self.send(envelope_frame(envelope, has_fd=bool(names)), names)

    @staticmethod
    def frame_of(body: bytes) -> bytes:
        """Return the frame of an envelope with any body."""
        return struct.pack(">IB", len(body) + 1, 16) + body
