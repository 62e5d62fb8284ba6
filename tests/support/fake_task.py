"""A scripted levityd that has one task, for tests of what takes several requests: run, wait, stdin. Runs in: tests."""

import base64
import threading
from collections.abc import Sequence
from typing import Any

from levity.protocol.messages import Request
from tests.support.fake_server import ID, LIMIT_S, Entry, Peer, log_wire, record

__all__ = ["FakeTask"]

JsonObject = dict[str, Any]


class FakeTask:
    """A script for FakeServer: `FakeServer(FakeTask(...))`.

    It writes `entries` at once and ends as `end` says: at once, or on "signal", on "input" (its end) or on "closed".
    It takes `reads` bytes of input, then it does not read any more ("closed"). Each log of `breaks` is cut after so
    many bytes, and its connection closed.
    """

    def __init__(
        self,
        entries: Sequence[Entry] = (),
        ends_on: str = "",
        reads: int | None = None,
        breaks: Sequence[int] = (),
        **end: Any,
    ) -> None:
        self.id = ID
        self.entries = entries
        self.input = b""
        self.input_ended = threading.Event()
        self.over = threading.Event()
        self._ends_on = ends_on
        self._reads = reads
        self._breaks = list(breaks)
        self._end = {"state": "Finished", "exit_code": 0} | end
        if not ends_on:
            self.over.set()

    def __call__(self, peer: Peer) -> None:
        peer.hello()
        while True:
            request = peer.request()
            method = getattr(self, request.method.replace(".", "_"))
            if method(peer, request) is False:
                return

    def record(self) -> JsonObject:
        return record(id=self.id, **(self._end if self.over.is_set() else {}))

    def task_start(self, peer: Peer, request: Request) -> None:
        self.id = request.params["id"]
        peer.reply(request, self.record())

    def task_query(self, peer: Peer, request: Request) -> None:
        peer.reply(request, self.record())

    def task_signal(self, peer: Peer, request: Request) -> None:
        peer.reply(request, self.record())
        self._happened("signal")

    def task_logs(self, peer: Peer, request: Request) -> bool:
        begin, *rest = self._frames(request)
        if self._breaks:
            peer.send((begin + b"".join(rest))[: self._breaks.pop(0)])
            return False
        peer.send(begin + b"".join(rest[:-1]))
        self._wait_over()
        peer.send(rest[-1])
        return True

    def _frames(self, request: Request) -> list[bytes]:
        """Return the answer to `task.logs` frame by frame."""
        wire = log_wire(self.entries, request, self.id)
        frames = []
        while wire:
            size = 4 + int.from_bytes(wire[:4], "big")
            frames.append(wire[:size])
            wire = wire[size:]
        return frames

    def task_wait(self, peer: Peer, request: Request) -> None:
        left_s = request.params["timeout_s"]
        if left_s is None:
            self._wait_over()
        brief = {name: self.record()[name] for name in ("id", "state", "exit_code", "signal", "reason")}
        tasks = [brief for _ in request.params["ids"]]
        peer.reply(request, {"tasks": tasks, "done": self.over.is_set()})

    def task_stdin(self, peer: Peer, request: Request) -> None:
        params = request.params
        data = base64.b64decode(params["data"], validate=True)
        assert params["offset"] <= len(self.input)
        new = data[len(self.input) - params["offset"] :]
        closed = self._reads is not None and len(self.input) + len(new) > self._reads
        if not closed:
            self.input += new
        peer.reply(request, {"stored": len(self.input), "closed": closed, "over": False})
        if params["end"]:
            self.input_ended.set()
            self._happened("input")
        if closed:
            self._happened("closed")

    def _happened(self, what: str) -> None:
        if what == self._ends_on:
            self.over.set()

    def _wait_over(self) -> None:
        assert self.over.wait(LIMIT_S), "the fake task does not end"
