"""SIGKILL front-end and engine while clients over TCP wait, follow and feed: all of them come to their end."""

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from levity import Client
from tests.support.certificates import self_signed
from tests.support.daemon import Daemon
from tests.support.paths import levityd_command

SIZE = 3_000_000


class Killing(io.BytesIO):
    """Input of which a piece is taken, then a process of levityd killed, by turns."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(b"x" * SIZE)
        self._daemon = daemon
        self.left = ["engine", "front-end", "engine", "front-end"]

    def read1(self, size: int | None = -1, /) -> bytes:
        if self.tell() and self.left:
            self._daemon.kill(self.left.pop())
        return super().read1(size)


@pytest.mark.parametrize("kind", ["token", "tls"])
def test_a_client_that_waits_follows_or_feeds_over_tcp_notices_no_kill(
    make_daemon: Callable[..., Daemon], tmp_path: Path, kind: str
) -> None:
    command = None
    if kind == "tls":
        made = self_signed(tmp_path)
        command = [*levityd_command(), "--certificate", str(made.path), "--key", str(made.key_path)]
    daemon = make_daemon("127.0.0.1:0", command=command).start()
    found: dict[str, Any] = {}

    def client() -> Client:
        return Client(daemon.address, tls=kind == "tls", token_file=daemon.token_file)

    def wait() -> None:
        with client() as one:
            found["wait"] = one.wait(task_id)[0].exit_code

    def follow() -> None:
        with client() as one:
            found["logs"] = b"".join(chunk.data for chunk in one.logs(task_id, follow=True))

    with client() as feeder:
        task_id = feeder.start(["/bin/sh", "-c", "cat; exit 7"], stdin=True)
        threads = [threading.Thread(target=work) for work in (wait, follow)]
        for thread in threads:
            thread.start()
        source = Killing(daemon)
        assert feeder.write_stdin(task_id, source) == SIZE
        assert not source.left
        for thread in threads:
            thread.join(30)
    assert found == {"wait": 7, "logs": b"x" * SIZE}
