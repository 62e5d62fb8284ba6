"""Who gets in, decided from where levityd listens and which files it was given. Runs in: arbiter. Owns: nothing.

The rule: on a unix socket the kernel says who a client is; on loopback a token does; on any other address a token
inside TLS does or, with a client CA, a certificate. `why_open` checks the rule again, on the socket that is bound.
"""

import ipaddress
import os
import shlex
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from levity.addresses import Address, is_loopback
from levity.errors import InvalidRequest
from supervisor.arbiter.certificates.pem import ends_at, fingerprint
from supervisor.arbiter.certificates.self_signed import host_name, own_certificate
from supervisor.arbiter.frontend_user import frontend_ids
from supervisor.arbiter.startup_error import CONFIGURATION, StartupError
from supervisor.log import log
from supervisor.settings import Access, Known, Tls

__all__ = ["TlsFiles", "access_for", "login_advice", "why_open"]

_SIZE_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class TlsFiles:
    """The files given with --certificate, --key, --client-ca and --crl, as absolute paths."""

    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    crl: str | None = None

    def check(self, *, is_unix: bool) -> None:
        """Raise InvalidRequest for a combination of options that makes no sense; the files are not read."""
        if is_unix and self != TlsFiles():
            raise InvalidRequest("a unix socket has no TLS: --certificate, --key, --client-ca and --crl need HOST:PORT")
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("--certificate and --key go together")
        if self.client_ca is not None and self.certificate is None:
            raise InvalidRequest("--client-ca needs --certificate and --key")
        if self.crl is not None and self.client_ca is None:
            raise InvalidRequest("--crl needs --client-ca")


def access_for(host: str | None, files: TlsFiles, now: Callable[[], float] = time.time) -> Access:
    """Decide how clients are known at an IP address, or with None on a unix socket.

    If a certificate is needed and none is given, it is made in the working directory, which is the state directory.
    InvalidRequest for options that do not fit together, StartupError for files that cannot be used. `now()` is wall
    time in seconds.
    """
    files.check(is_unix=host is None)
    ids = frontend_ids() if os.geteuid() == 0 else None
    if host is None:
        return Access(Known.PEER, frontend_ids=ids)
    if files.certificate is not None and files.key is not None:
        tls = _given(files.certificate, files.key, files, now())
        known = Known.TOKEN if files.client_ca is None else Known.CERTIFICATE
        if known is Known.CERTIFICATE and files.crl is None:
            log("levityd: without --crl no certificate can be revoked")
        return Access(known, tls, files.crl, ids)
    return Access(Known.TOKEN, None if is_loopback(host) else own_certificate(), frontend_ids=ids)


def why_open(bound: socket.socket, access: Access) -> str:
    """Return why an unknown client could get in by a socket with this access; "" if none can.

    It looks at the socket as it is bound, not at what was asked for.
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
    """Return the line that tells how a client on another host gets in by a token inside TLS; "" where none can."""
    if access.known is not Known.TOKEN or access.tls is None:
        return ""
    is_any = ipaddress.ip_address(address.host.partition("%")[0]).is_unspecified
    there = Address(host=host_name(), port=address.port) if is_any else address
    return (
        f"To let a client in: levityd token show --state-dir {shlex.quote(state_dir)} here, levity -a {there} login "
        f"there (certificate SHA-256 {fingerprint(access.tls.certificate)})"
    )


def _given(certificate: str, key: str, files: TlsFiles, now: float) -> Tls:
    """Read the files that were given, and check that a TLS server can use them."""
    tls = Tls(
        certificate=_read("--certificate", certificate),
        key=_read("--key", key, is_secret=True),
        client_ca=None if files.client_ca is None else _read("--client-ca", files.client_ca),
    )
    # One file more each time: the one that was added last is to blame when it fails.
    _try(f"--certificate {certificate}, --key {key}", tls.certificate, tls.key)
    if tls.client_ca is not None:
        _try(f"--client-ca {files.client_ca}", tls.certificate, tls.key, tls.client_ca)
    if files.crl is not None:
        crl = _read("--crl", files.crl)
        _try(f"--crl {files.crl}", tls.certificate, tls.key, tls.client_ca, crl)
    try:
        has_expired = ends_at(tls.certificate) < now
    except ValueError as error:
        raise StartupError(f"--certificate {certificate}: {error}", CONFIGURATION) from error
    if has_expired:
        log(f"levityd: warning: --certificate {certificate} has expired; clients that check it will not connect")
    return tls


def _try(what: str, certificate: bytes, key: bytes, client_ca: bytes | None = None, crl: bytes | None = None) -> None:
    from levity.tls import SSLError, server_context

    try:
        server_context(certificate, key, client_ca, crl)
    except (SSLError, ValueError) as error:
        # OpenSSL's own names say what is wrong, as KEY_VALUES_MISMATCH does. It has none for a file that is not PEM.
        reason = getattr(error, "reason", "") if isinstance(error, SSLError) else str(error)
        detail = (reason or "not in PEM, or damaged").replace("_", " ").replace("\n", " ").lower()
        raise StartupError(f"{what}: {detail}", CONFIGURATION) from error


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
        raise StartupError(f"{option} {path}: {error.strerror}", CONFIGURATION) from error
    if wrong := _why_not_secret(found) if is_secret else _why_not_safe(found):
        raise StartupError(f"{option} {path}: {wrong}", CONFIGURATION)
    return data


def _why_not_secret(found: os.stat_result) -> str:
    if found.st_uid not in (0, os.geteuid()):
        return f"it belongs to user {found.st_uid}, neither to {os.geteuid()} who runs levityd nor to root"
    # Root may let a group read its keys, as Debian's ssl-cert: that is how programs get them.
    allowed = 0o640 if found.st_uid == 0 else 0o600
    if found.st_mode & 0o077 & ~allowed:
        return f"it has mode {found.st_mode & 0o7777:04o}; others could read the key: chmod 600"
    return ""


def _why_not_safe(found: os.stat_result) -> str:
    if found.st_mode & 0o002:
        return f"it has mode {found.st_mode & 0o7777:04o}; everybody could change who gets in: chmod o-w"
    return ""
