"""A task that writes random bytes to both streams, and what it writes. Owns: nothing."""

import hashlib
import random
import sys

__all__ = ["Digests", "digest_of", "noise", "noise_command"]

Digests = dict[str, str]

_CODE = """
import os, random, sys, time
seed, size, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
rng = random.Random(seed)
streams = {stream: memoryview(rng.randbytes(size)) for stream in (1, 2)}
while any(streams.values()):
    stream = rng.choice([stream for stream, rest in streams.items() if rest])
    length = rng.choice((1, 7, 4096, 100000))
    done = os.write(stream, streams[stream][:length])
    streams[stream] = streams[stream][done:]
    if pause: time.sleep(pause)
"""


def noise_command(seed: int, size: int, pause_s: float = 0.0) -> list[str]:
    """Return a command that writes `size` random bytes to each stream, in pieces of 1 to 100 000, by turns."""
    return [sys.executable, "-I", "-S", "-c", _CODE, str(seed), str(size), str(pause_s)]


def noise(seed: int, size: int) -> Digests:
    """Return the digests of what that command writes."""
    rng = random.Random(seed)
    return {name: digest_of(rng.randbytes(size)) for name in ("stdout", "stderr")}


def digest_of(data: bytes) -> str:
    """Return a short digest, to be compared instead of megabytes."""
    return hashlib.sha256(data).hexdigest()
