"""Who is at the other end of a unix socket, and what it is. Runs in: front-end, engine. Owns: nothing."""

import errno
import fcntl
import os
import select
import socket
import struct
from functools import cache

__all__ = ["has_left", "is_accepted", "peer_credentials"]

# struct ucred (unix(7)): pid, uid, gid; the ids are unsigned.
_UCRED = struct.Struct("iII")
# asm/socket.h of all but sparc and parisc; Python has no name for it (Linux 4.13).
_SO_PEERGROUPS = 59
# The most that getsockopt in Python takes: 256 groups.
_GROUPS_SIZE = 1024
_NOBODY = 2**32 - 1
# linux/un.h (Linux 4.17): open the file that a socket is bound to, with O_PATH. Needs CAP_NET_ADMIN.
_SIOCUNIXFILE = 0x89E0


def peer_credentials(sock: socket.socket) -> tuple[int, int, int, list[int] | None]:
    """Return (pid, uid, gid, supplementary groups) of the process that connected, as it was at that time.

    The groups are None where the kernel does not tell, or there are too many. PermissionError for a user who has no id
    here: a user namespace shows all users that it does not know under the same one (user_namespaces(7)).
    """
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid in (_NOBODY, _overflow_id("uid")) or gid in (_NOBODY, _overflow_id("gid")):
        raise PermissionError(errno.EPERM, "a user of another user namespace")
    return pid, uid, gid, _groups(sock)


def has_left(sock: socket.socket) -> bool:
    """Whether the other side has closed its end; the kernel still tells who it was."""
    poller = select.poll()
    poller.register(sock, 0)
    return bool(poller.poll(0))


def is_accepted(sock: socket.socket, path: str) -> bool:
    """Whether this is a connection that the listener bound to `path` has accepted, of a client without a name.

    For any other socket SO_PEERCRED names somebody else: for a listener the process that listens, for a connected
    client the owner of the service, for a pair its maker. An attacker can bind each of those to the same name in a
    mount namespace of his own, but not to the same file.
    """
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        return False
    try:
        if sock.getpeername() or sock.getsockname() != path:
            return False
    except OSError:  # ENOTCONN: a listener has no peer.
        return False
    try:
        fd = fcntl.ioctl(sock.fileno(), _SIOCUNIXFILE)
    except OSError as error:
        # The kernel does not say. ENOENT: there is no such file.
        return error.errno != errno.ENOENT
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False
    finally:
        os.close(fd)


def _groups(sock: socket.socket) -> list[int] | None:
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_SIZE)
    except OSError:
        return None
    return [gid for (gid,) in struct.iter_unpack("I", packed) if gid != _overflow_id("gid")]


@cache
def _overflow_id(kind: str) -> int:
    """Return the uid or gid that stands for all unknown ones; -1 where all are known, so that it may be a real one."""
    try:
        with open(f"/proc/self/{kind}_map") as file:
            if file.read().split() == ["0", "0", str(_NOBODY)]:
                return -1
        with open(f"/proc/sys/kernel/overflow{kind}") as file:
            return int(file.read())
    except FileNotFoundError:
        return -1  # A kernel without user namespaces.
