"""The listening socket. Runs in: arbiter. Owns: the socket, and the file of a unix socket.

It outlives every front-end: while none is there, connections wait in the backlog and are not refused.
"""

import errno
import ipaddress
import os
import socket

from levity.addresses import Address
from supervisor.arbiter.refusal import CONFIGURATION, FAILED, RefusedError
from supervisor.hostos.locks import lock_holder, try_lock
from supervisor.hostos.processes import port_holder

__all__ = ["Listener"]

_BACKLOG = 1024


class Listener:
    """A bound socket; `listen()` makes it accept, `address` is where it really is."""

    def __init__(self, address: Address) -> None:
        self._lock_fd = -1
        self.socket = self._bind_unix(address) if address.is_unix else _bind_tcp(address)
        self.address = address if address.is_unix else _real_address(self.socket)

    def __repr__(self) -> str:
        return f"<Listener {self.address}>"

    def listen(self) -> None:
        """Start to accept; refused if somebody else began to listen there since."""
        try:
            self.socket.listen(_BACKLOG)
        except OSError as error:
            raise _refused(self.address, error) from error

    def close(self) -> None:
        """Stop listening; a unix socket's file goes with it."""
        self.socket.close()
        if self.address.is_unix:
            try:
                os.unlink(self.address.path)
            except OSError:
                pass

    def _bind_unix(self, address: Address) -> socket.socket:
        self._lock_fd = _lock_socket(address)
        unix = socket.socket(socket.AF_UNIX)
        try:
            try:
                os.unlink(address.path)  # Nobody has the lock, so it is the file of a levityd that was killed.
            except FileNotFoundError:
                pass
            unix.bind(address.path)
            os.chmod(address.path, 0o600)
        except OSError as error:
            unix.close()
            raise _refused(address, error) from error
        return unix


def _lock_socket(address: Address) -> int:
    """Take the lock beside a unix socket: the file alone does not tell whether somebody listens there."""
    try:
        if os.path.lexists(address.path) and not _is_socket(address.path):
            raise RefusedError(f"cannot listen on {address}: a file that is no socket is there", CONFIGURATION)
        fd = os.open(address.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(address, error) from error
    if not try_lock(fd):
        raise RefusedError(f"cannot listen on {address}: another levityd (process {lock_holder(fd)}) does")
    if _is_listening(address.path):
        os.close(fd)
        raise RefusedError(f"cannot listen on {address}: another program does; stop it, or give another address")
    return fd


def _is_listening(path: str) -> bool:
    """Whether a program that knows nothing of the lock listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass  # Its backlog is full, it is of another kind, or it is not for us: somebody has it in any case.
    return True


def _is_socket(path: str) -> bool:
    return os.path.exists(path) and (os.lstat(path).st_mode & 0o170000) == 0o140000


def _bind_tcp(address: Address) -> socket.socket:
    try:
        family, kind, protocol, _name, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise RefusedError(
            f"cannot listen on {address}: {address.host!r} is no address of this host ({error})"
        ) from error
    _check_loopback(address, str(where[0]))
    tcp = socket.socket(family, kind, protocol)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        tcp.bind(where)
    except OSError as error:
        tcp.close()
        raise _refused(address, error) from error
    return tcp


def _check_loopback(address: Address, host: str) -> None:
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise RefusedError(
            f"refused to listen on {address}: this version has no access control yet, so everybody who reaches that "
            f"address could run commands here; use 127.0.0.1:{address.port} or the unix socket (no address), and come "
            "from elsewhere through ssh -L",
            CONFIGURATION,
        )


def _real_address(tcp: socket.socket) -> Address:
    host, port = tcp.getsockname()[:2]
    return Address(host=host, port=port)


def _refused(address: Address, error: OSError) -> RefusedError:
    if error.errno == errno.EADDRINUSE:
        return RefusedError(
            f"cannot listen on {address}: {port_holder(address.port)} does; stop it, or give another address"
        )
    status = CONFIGURATION if error.errno in (errno.EADDRNOTAVAIL, errno.ENOENT, errno.EACCES) else FAILED
    return RefusedError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}", status)
