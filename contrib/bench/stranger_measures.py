"""What unauthenticated connections cost a known client. Runs in: `make bench`. Owns: nothing beyond its own run."""

import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from contrib.bench.scratch import Row, Settings, client_of, scratch_daemon
from levity import Client
from tests.support.daemon import Daemon

__all__ = ["strangers"]

_NUMBER = 500
_PAUSE_S = 0.005


def strangers(settings: Settings) -> list[Row]:
    """Queries of an authenticated client while 500 others connect, send little or nothing, and come back."""
    seconds = 4.0 if settings.quick else 15.0
    with scratch_daemon(settings, "127.0.0.1:0") as daemon, client_of(daemon) as client:
        alone = _query_for(client, seconds / 2)
        with _flood(daemon):
            flooded = _query_for(client, seconds)
    p99, before = (statistics.quantiles(took, n=100)[-1] for took in (flooded, alone))
    text = f"a query while {_NUMBER} strangers hold connections: p99 of {len(flooded)}"
    return [Row(text, f"{p99:.1f} ms", f"{before:.1f} ms (without them)", f"{p99 / before:.2f}", "< 100 ms", p99 < 100)]


def _query_for(client: Client, seconds: float) -> list[float]:
    took = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        client.info()
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(_PAUSE_S)
    return took


@contextmanager
def _flood(daemon: Daemon) -> Iterator[None]:
    """Keep so many connections: one that levityd drops comes back at once."""
    host, port = str(daemon.address).rsplit(":", 1)
    over = threading.Event()

    def keep() -> None:
        with ExitStack() as undo:
            held = [undo.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(_NUMBER)]
            while not over.wait(0.1):
                for place, sock in enumerate(held):
                    try:
                        sock.send(b"\0" if place % 2 else b"")
                        sock.setblocking(False)
                        is_dropped = sock.recv(4096) == b""
                    except BlockingIOError:
                        continue
                    except OSError:
                        is_dropped = True
                    if is_dropped:
                        sock.close()
                        held[place] = undo.enter_context(socket.create_connection((host, int(port)), 10))

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
