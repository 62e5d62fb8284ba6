"""A file sent through a loopback socket as cat(1) would: read, write, and the same to /dev/null at the other end.

Runs in: `make bench`. Owns: the two processes of one sending.
"""

import subprocess
import sys
import time
from pathlib import Path

__all__ = ["cat"]

_SEND = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
out = listener.accept()[0].detach()
file = os.open(sys.argv[1], os.O_RDONLY)
while data := os.read(file, 131072):
    while data:
        data = data[os.write(out, data):]
"""
_RECEIVE = """
import os, socket, sys
come = socket.create_connection(("127.0.0.1", int(sys.argv[1]))).detach()
null = os.open(os.devnull, os.O_WRONLY)
while data := os.read(come, 131072):
    os.write(null, data)
"""


def cat(path: Path) -> float:
    """Send the file and return the seconds from the receiver's start to its end."""
    with subprocess.Popen([sys.executable, "-ISc", _SEND, str(path)], stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None
        port = sender.stdout.readline().strip()
        began = time.perf_counter()
        subprocess.run([sys.executable, "-ISc", _RECEIVE, port], check=True, timeout=120)
        return time.perf_counter() - began
