"""What a proof over a plain TCP connection is bound to. Runs in: client, front-end. Owns: nothing.

On loopback the same address is there in each network namespace of each host. So the binding also says which those are:
who holds the same address and port elsewhere, where the same token may be (a container with the same state directory, a
home on a file server), cannot be made to believe that it is talked to.
"""

import os

__all__ = ["boot_id", "endpoint_binding"]


def endpoint_binding(host: str, port: int) -> bytes:
    """Return the binding: the server's end, as getsockname(2) gives it, the boot of the host, the network namespace."""
    return f"tcp:{host}:{port} {boot_id()} {_network()}".encode("ascii", "replace")


def boot_id() -> str:
    """Return what names the host since it was booted (random(4)); "" where the system does not tell."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 64).decode("ascii", "replace").strip()
    finally:
        os.close(fd)


def _network() -> str:
    """Return what names this process's network namespace (namespaces(7)); "" where there are none."""
    try:
        found = os.stat("/proc/self/ns/net")
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"
