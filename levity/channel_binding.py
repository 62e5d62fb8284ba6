"""What a proof over a plain TCP connection is bound to (RFC 5056). Runs in: client, front-end, engine. Owns: nothing.

Each network namespace of each host has the same loopback addresses. So the binding names host and namespace, too. The
same token may be elsewhere (a container with the same state directory, a home on a file server): a levityd there, at
the same address and port, refuses a proof that an attacker passes on to it.
"""

import os

__all__ = ["boot_id", "endpoint_binding"]


def endpoint_binding(host: str, port: int) -> bytes:
    """Return the binding: the server's address as getsockname(2) gives it, the host's boot, the network namespace."""
    return f"tcp:{host}:{port} {boot_id()} {_network()}".encode("ascii", "replace")


def boot_id() -> str:
    """Return the id of this boot of the host (random(4)); "" where the system has none."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 64).decode("ascii", "replace").strip()
    finally:
        os.close(fd)


def _network() -> str:
    """Return the id of this process's network namespace (namespaces(7)); "" where the system has none."""
    try:
        found = os.stat("/proc/self/ns/net")
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"
