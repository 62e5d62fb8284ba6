"""The listening socket. Runs in: arbiter. Owns: the socket, and the file of a unix socket.

It outlives every front-end: while there is none, connections wait in the backlog and are not refused.
"""

import errno
import os
import socket
import stat
from dataclasses import dataclass
from typing import Any

from levity.addresses import SYSTEM_SOCKET, Address
from supervisor.arbiter.access import why_open
from supervisor.arbiter.startup_error import CONFIGURATION, FAILED, StartupError
from supervisor.hostos.locks import lock_holder, open_lock, try_lock
from supervisor.hostos.processes import port_holder
from supervisor.settings import Access

__all__ = ["Listener", "Place", "find_place"]

_BACKLOG = 1024
_ANOTHER = "give another address"


@dataclass(frozen=True)
class Place:
    """An address as it was asked for, and what it resolves to: `where` is what bind(2) takes, () for a unix socket."""

    address: Address
    family: socket.AddressFamily
    where: tuple[Any, ...] = ()

    @property
    def host(self) -> str | None:
        """The IP address; None for a unix socket."""
        return str(self.where[0]) if self.where else None


def find_place(address: Address) -> Place:
    """Resolve an address, once: the decision who gets in and bind(2) are then about the same IP address."""
    if address.is_unix:
        return Place(address, socket.AF_UNIX)
    try:
        family, _kind, _protocol, _name, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise StartupError(
            f"cannot listen on {address}: {address.host!r} is no address of this host ({error}); {_ANOTHER}"
        ) from error
    return Place(address, family, where)


class Listener:
    """A bound socket; `listen()` makes it accept, `address` has the port that was really bound.

    StartupError if it cannot be bound, or if `access` would let an unknown client in by it.
    """

    def __init__(self, place: Place, access: Access) -> None:
        self.access = access
        self._lock_fd = -1
        self.address = place.address
        self.socket = self._bind_unix(place.address) if place.address.is_unix else _bind_tcp(place)
        if place.host is not None:
            self.address = _real_address(self.socket)
        if why := why_open(self.socket, access):
            self.close()
            raise StartupError(f"refused to listen on {place.address}: {why}", CONFIGURATION)

    def __repr__(self) -> str:
        return f"<Listener {self.address}>"

    def listen(self) -> None:
        """Start to accept; StartupError if another program has begun to listen there since."""
        try:
            self.socket.listen(_BACKLOG)
        except OSError as error:
            raise _refused(self.address, error) from error

    def close(self) -> None:
        """Stop listening, and remove the file of a unix socket."""
        self.socket.close()
        if self.address.is_unix:
            try:
                os.unlink(self.address.path)
            except OSError:
                pass
            os.close(self._lock_fd)

    def _bind_unix(self, address: Address) -> socket.socket:
        if address.path == SYSTEM_SOCKET and os.geteuid() == 0:
            _make_system_directory(address)
        self._lock_fd = _lock_socket(address)
        unix = socket.socket(socket.AF_UNIX)
        try:
            try:
                os.unlink(address.path)  # The lock was free, so a levityd that was killed left it.
            except FileNotFoundError:
                pass
            unix.bind(address.path)
            # Root's is for all users: the kernel says who connects, and tasks run as the user who started them.
            os.chmod(address.path, 0o666 if os.geteuid() == 0 else 0o600)
        except OSError as error:
            unix.close()
            raise _refused(address, error) from error
        return unix


def _make_system_directory(address: Address) -> None:
    """Make the directory of root's socket. Only root may write to it: others could put a socket of theirs there."""
    path = os.path.dirname(address.path)
    try:
        before = os.umask(0o022)
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            pass
        finally:
            os.umask(before)
        found = os.lstat(path)
    except OSError as error:
        raise _refused(address, error) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise StartupError(
            f"cannot listen on {address}: {path} must be a directory of root's that nobody else can write to",
            CONFIGURATION,
        )


def _lock_socket(address: Address) -> int:
    """Take the lock beside a unix socket: the socket's file does not tell whether a levityd listens there."""
    try:
        if os.path.lexists(address.path) and not _is_socket(address.path):
            raise StartupError(
                f"cannot listen on {address}: a file that is no socket is there; {_ANOTHER}", CONFIGURATION
            )
        fd = open_lock(address.path + ".lock")
    except OSError as error:
        raise _refused(address, error) from error
    if not try_lock(fd):
        raise StartupError(
            f"cannot listen on {address}: another levityd (process {lock_holder(fd)}) does; stop it, or {_ANOTHER}"
        )
    if _is_listening(address.path):
        os.close(fd)
        raise StartupError(f"cannot listen on {address}: another program does; stop it, or {_ANOTHER}")
    return fd


def _is_listening(path: str) -> bool:
    """Whether a program that does not use the lock listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass  # Its backlog is full, it is of another kind, or we may not connect: some program has it.
    return True


def _is_socket(path: str) -> bool:
    return os.path.exists(path) and stat.S_ISSOCK(os.lstat(path).st_mode)


def _bind_tcp(place: Place) -> socket.socket:
    tcp = socket.socket(place.family, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        tcp.bind(place.where)
    except OSError as error:
        tcp.close()
        raise _refused(place.address, error) from error
    return tcp


def _real_address(tcp: socket.socket) -> Address:
    host, port = tcp.getsockname()[:2]
    return Address(host=host, port=port)


def _refused(address: Address, error: OSError) -> StartupError:
    if error.errno == errno.EADDRINUSE:
        return StartupError(f"cannot listen on {address}: {port_holder(address.port)} does; stop it, or {_ANOTHER}")
    status = CONFIGURATION if error.errno in (errno.EADDRNOTAVAIL, errno.ENOENT, errno.EACCES) else FAILED
    return StartupError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}", status)
