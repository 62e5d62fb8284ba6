"""Who gets in, decided from where levityd listens and which files it was given. Runs in: arbiter. Owns: nothing.

The rule: on a unix socket the kernel says who somebody is; on loopback a token does; on any other address a token
inside TLS, or with a client CA a certificate. `why_open` states it once more, of a socket as it is bound.
"""

import grp
import ipaddress
import os
import pwd
import shlex
import socket
import time
from dataclasses import dataclass

from levity.addresses import Address
from levity.errors import InvalidRequest
from supervisor.arbiter.certificates.pem import ends_at, fingerprint
from supervisor.arbiter.certificates.self_signed import host_name, own_certificate
from supervisor.arbiter.startup_error import CONFIGURATION, RefusedError
from supervisor.log import say
from supervisor.settings import Access, Known, Tls

__all__ = ["TlsFiles", "access_for", "is_loopback", "login_advice", "why_open"]

_SIZE_LIMIT = 1024 * 1024
# Where systemd takes users from that have no account: a name service tells those in use (systemd.exec(5)).
_FREE_IDS = range(61184, 65520)


@dataclass(frozen=True)
class TlsFiles:
    """The files given with --certificate, --key, --client-ca and --crl, as absolute paths."""

    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    crl: str | None = None

    def check(self, *, is_unix: bool) -> None:
        """InvalidRequest for a combination that makes no sense, whatever is in the files."""
        if is_unix and self != TlsFiles():
            raise InvalidRequest("a unix socket has no TLS: --certificate, --key, --client-ca and --crl need HOST:PORT")
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("--certificate and --key go together")
        if self.client_ca is not None and self.certificate is None:
            raise InvalidRequest("--client-ca needs --certificate and --key")
        if self.crl is not None and self.client_ca is None:
            raise InvalidRequest("--crl needs --client-ca")


def is_loopback(host: str) -> bool:
    """Whether this IP address is reached from this host only."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def access_for(host: str | None, files: TlsFiles) -> Access:
    """Decide how clients are known at an IP address, or with None on a unix socket.

    The working directory is the state directory: a certificate is made there if one is needed and none is given.
    InvalidRequest for options that do not fit, RefusedError for files that do not.
    """
    files.check(is_unix=host is None)
    ids = _frontend_ids() if os.geteuid() == 0 else None
    if host is None:
        return Access(Known.PEER, frontend_ids=ids)
    if files.certificate is not None and files.key is not None:
        tls = _given(files.certificate, files.key, files)
        known = Known.TOKEN if files.client_ca is None else Known.CERTIFICATE
        if known is Known.CERTIFICATE and files.crl is None:
            say("levityd: without --crl no certificate can be revoked")
        return Access(known, tls, files.crl, ids)
    return Access(Known.TOKEN, None if is_loopback(host) else own_certificate(), frontend_ids=ids)


def why_open(bound: socket.socket, access: Access) -> str:
    """Return why somebody could get in by this socket who should not; "" if nobody can.

    Of the socket as it is bound, whatever was asked for and decided before.
    """
    if bound.family == socket.AF_UNIX:
        return "" if access == Access(frontend_ids=access.frontend_ids) else "a unix socket has no tokens and no TLS"
    if access.known is Known.PEER:
        return "the kernel says who somebody is on a unix socket only"
    host = str(bound.getsockname()[0])
    if access.tls is None and (access.known is not Known.TOKEN or not is_loopback(host)):
        return f"{host} can be reached from elsewhere, and there is no TLS"
    if access.tls is not None and (access.tls.client_ca is not None) != (access.known is Known.CERTIFICATE):
        return "certificates of clients can be checked with their CA only"
    return ""


def login_advice(access: Access, address: Address, state_dir: str) -> str:
    """Return the line that tells how clients elsewhere get in; "" where that is not by a token inside TLS."""
    if access.known is not Known.TOKEN or access.tls is None:
        return ""
    is_any = ipaddress.ip_address(address.host.partition("%")[0]).is_unspecified
    there = Address(host=host_name(), port=address.port) if is_any else address
    return (
        f"To let a client in: levityd token show --state-dir {shlex.quote(state_dir)} here, levity -a {there} login "
        f"there (certificate SHA-256 {fingerprint(access.tls.certificate)})"
    )


def _frontend_ids() -> tuple[int, int]:
    """Return the user and group for the front-end: those of the account `levity`, else a number that is nobody's.

    Not those of `nobody`, who has other processes, and whom a task may run as: they could signal the front-end.
    """
    try:
        account = pwd.getpwnam("levity")
        if account.pw_uid and account.pw_gid:
            return account.pw_uid, account.pw_gid
    except KeyError:
        pass
    free = next(number for number in _FREE_IDS if not _is_taken(number))
    return free, free


def _is_taken(number: int) -> bool:
    for look_up in (pwd.getpwuid, grp.getgrgid):
        try:
            look_up(number)
        except KeyError:
            continue
        return True
    return False


def _given(certificate: str, key: str, files: TlsFiles) -> Tls:
    """Read what was given, and see that a server can be made of it."""
    tls = Tls(
        certificate=_read("--certificate", certificate),
        key=_read("--key", key, is_secret=True),
        client_ca=None if files.client_ca is None else _read("--client-ca", files.client_ca),
    )
    # One file more each time, so that the first that fails is the one to name.
    _try(f"--certificate {certificate}, --key {key}", tls.certificate, tls.key)
    if tls.client_ca is not None:
        _try(f"--client-ca {files.client_ca}", tls.certificate, tls.key, tls.client_ca)
    if files.crl is not None:
        crl = _read("--crl", files.crl)
        _try(f"--crl {files.crl}", tls.certificate, tls.key, tls.client_ca, crl)
    try:
        has_expired = ends_at(tls.certificate) < time.time()
    except ValueError as error:
        raise RefusedError(f"--certificate {certificate}: {error}", CONFIGURATION) from error
    if has_expired:
        say(f"levityd: warning: --certificate {certificate} has expired; clients that check it will not connect")
    return tls


def _try(what: str, certificate: bytes, key: bytes, client_ca: bytes | None = None, crl: bytes | None = None) -> None:
    from levity.tls import SSLError, server_context

    try:
        server_context(certificate, key, client_ca, crl)
    except (SSLError, ValueError) as error:
        # OpenSSL's names for what is wrong are words enough, KEY_VALUES_MISMATCH; where it has none, that is not PEM.
        reason = getattr(error, "reason", "") if isinstance(error, SSLError) else str(error)
        detail = (reason or "not in PEM, or damaged").replace("_", " ").replace("\n", " ").lower()
        raise RefusedError(f"{what}: {detail}", CONFIGURATION) from error


def _read(option: str, path: str, *, is_secret: bool = False) -> bytes:
    try:
        # O_NONBLOCK: a FIFO in its place would keep levityd waiting.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
            data = os.read(fd, _SIZE_LIMIT)
        finally:
            os.close(fd)
    except OSError as error:
        raise RefusedError(f"{option} {path}: {error.strerror}", CONFIGURATION) from error
    if wrong := _secret_at_large(found) if is_secret else _writable_by_all(found):
        raise RefusedError(f"{option} {path}: {wrong}", CONFIGURATION)
    return data


def _secret_at_large(found: os.stat_result) -> str:
    if found.st_uid not in (0, os.geteuid()):
        return f"it belongs to user {found.st_uid}, neither to {os.geteuid()} who runs levityd nor to root"
    # A group that root lets read its keys, as Debian's ssl-cert, is what programs get them by.
    allowed = 0o640 if found.st_uid == 0 else 0o600
    if found.st_mode & 0o077 & ~allowed:
        return f"it has mode {found.st_mode & 0o7777:04o}; others could read the key: chmod 600"
    return ""


def _writable_by_all(found: os.stat_result) -> str:
    if found.st_mode & 0o002:
        return f"it has mode {found.st_mode & 0o7777:04o}; everybody could change who gets in: chmod o-w"
    return ""
