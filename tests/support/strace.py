"""Make the system calls of a zygote's children fail, or kill them there. Owns: the strace that does it."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.deadline import eventually
from tests.support.zygote import Zygote

__all__ = ["NEEDS_STRACE", "injecting"]

NEEDS_STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@contextmanager
def injecting(zygote: Zygote, what: str, log: Path) -> Iterator[None]:
    """Have strace(1) inject `what`, "fsync:error=EIO", say, into each process that the zygote forks meanwhile."""
    calls = what.partition(":")[0]
    command = ["strace", "-f", "-qq", "-o", str(log), "-p", str(zygote.process.pid)]
    command += ["-e", f"trace={calls}", "-e", f"inject={what}"]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: _is_traced(zygote.process.pid) or tracer.poll() is not None, "strace to attach")
        if tracer.poll() is not None:
            pytest.skip(f"strace may not trace here: {tracer.stderr and tracer.stderr.read()}")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=10)


def _is_traced(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as file:
        return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in file)
