"""The directory of a certificate authority (CA), `certs` in the state directory. Runs in: arbiter. Owns: its files.

`issued.json` is written before a certificate is, so that every certificate can be revoked.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from levity.errors import Conflict, InvalidRequest, LevityError
from supervisor.arbiter.certificates.self_signed import EXTRA_IS_MISSING
from supervisor.arbiter.startup_error import CONFIGURATION, StartupError
from supervisor.hostos.files import open_directory
from supervisor.security import private_files

__all__ = ["DIRECTORY", "CaDirectory", "make_ca"]

DIRECTORY = "certs"
_ISSUED = "issued.json"
_LOCK = "lock"
_CA, _SERVER, _CRL = "ca", "server", "crl.pem"
# A user's files have the user's name.
_RESERVED = {_CA, _SERVER, "crl"}
_SIZE_LIMIT = 64 * 1024 * 1024
_VERSION = 1


@dataclass
class _Certificate:
    """A certificate that was issued; `revoked_at` is 0 until it is revoked. Times in seconds since 1970."""

    user: str
    serial: str  # In hexadecimal: many a JSON parser does not keep all 160 bits of a number.
    ends_at: int
    revoked_at: int = 0


def _load_x509() -> ModuleType:
    """Return the module that makes certificates; StartupError where the package that it needs is not installed."""
    try:
        from supervisor.arbiter.certificates import x509
    except ImportError as error:
        raise StartupError(EXTRA_IS_MISSING, CONFIGURATION) from error
    return x509


def make_ca(host: str, names: list[str]) -> None:
    """Make a CA, and a certificate for a server of these names; Conflict if there is a CA already."""
    x509 = _load_x509()
    state = open_directory(".")
    # Made under another name and renamed, so that the CA is there whole or not at all.
    unfinished = f".{DIRECTORY}.{os.urandom(8).hex()}"
    try:
        if os.path.lexists(DIRECTORY):
            raise Conflict(f"there is a directory {DIRECTORY} already; move it away to make another authority")
        fd = private_files.make_directory(unfinished, state)
        try:
            _fill(x509, fd, host, names)
            os.rename(unfinished, DIRECTORY)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        finally:
            os.close(fd)
        os.fsync(state)
    finally:
        os.close(state)


def _fill(x509: ModuleType, fd: int, host: str, names: list[str]) -> None:
    ca_key, server_key = x509.make_key(), x509.make_key()
    ca = x509.make_authority(ca_key, host)
    authority = x509.Authority(ca, ca_key)
    try:
        server = authority.issue_server(server_key, names)
    except ValueError as error:
        raise InvalidRequest(f"a certificate cannot have these names: {error}") from error
    for name, data in (
        (f"{_CA}.key", ca_key),
        (f"{_CA}.pem", ca),
        (f"{_SERVER}.key", server_key),
        (f"{_SERVER}.pem", server.certificate),
        (_CRL, authority.list_revoked([])),
        (_ISSUED, _dump([])),
    ):
        private_files.create(fd, name, data)


class CaDirectory:
    """The CA in the working directory, which is the state directory; LevityError if there is none, or it is damaged.

    `now()` is wall time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._x509 = _load_x509()
        try:
            self._fd = private_files.open_directory(DIRECTORY)
        except FileNotFoundError:
            raise LevityError("there is no authority yet; levityd certs init makes one") from None
        except private_files.NotPrivateError as error:
            raise LevityError(f"{DIRECTORY}: {error.message}") from error
        try:
            self._authority = self._load_authority()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<CaDirectory {self._authority!r}>"

    def close(self) -> None:
        """Close the directory."""
        os.close(self._fd)

    def issue(self, user: str, days: int) -> None:
        """Make USER.pem and USER.key; Conflict if they are there."""
        if user in _RESERVED:
            raise InvalidRequest(f"{user!r} is taken by the authority's own files; give the user another name")
        with self._table() as table:
            for name in (f"{user}.pem", f"{user}.key"):
                if os.access(name, os.F_OK, dir_fd=self._fd, follow_symlinks=False):
                    raise Conflict(
                        f"{DIRECTORY}/{name} is there already; levityd certs revoke {user} makes it invalid, or move "
                        "it away to have a second one beside it"
                    )
            key = self._x509.make_key()
            issued = self._authority.issue_client(key, user, days)
            table.append(_Certificate(user, f"{issued.serial:x}", issued.ends_at))
            self._store(table)
            private_files.create(self._fd, f"{user}.key", key)
            private_files.create(self._fd, f"{user}.pem", issued.certificate)

    def revoke(self, user: str) -> int:
        """Put every certificate of a user into the revocation list; return how many were not in it yet.

        LevityError if none was ever issued. If this was killed half-way, calling it again does the rest.
        """
        with self._table() as table:
            own = [one for one in table if one.user == user]
            if not own:
                raise LevityError(f"no certificate was issued to {user!r} here")
            fresh = [one for one in own if not one.revoked_at]
            for one in fresh:
                one.revoked_at = int(self._now())
            self._store(table)
            revoked = [(int(one.serial, 16), one.revoked_at) for one in table if one.revoked_at]
            private_files.replace(self._fd, _CRL, self._authority.list_revoked(revoked))
            for name in (f"{user}.pem", f"{user}.key"):
                try:
                    os.unlink(name, dir_fd=self._fd)
                except FileNotFoundError:
                    pass
        return len(fresh)

    def _load_authority(self) -> Any:
        try:
            found = [self._read(f"{_CA}.{kind}") for kind in ("pem", "key")]
            return self._x509.Authority(*found, self._now)
        except ValueError as error:
            raise LevityError(f"{DIRECTORY}/{_CA}.pem and {_CA}.key are damaged: {error}") from error

    def _read(self, name: str) -> bytes:
        try:
            data = private_files.read(self._fd, name, _SIZE_LIMIT)
        except private_files.NotPrivateError as error:
            raise LevityError(f"{DIRECTORY}/{name}: {error.message}") from error
        if data is None:
            raise LevityError(f"{DIRECTORY}/{name} is missing")
        return data

    @contextmanager
    def _table(self) -> Iterator[list[_Certificate]]:
        """Give the certificates that were issued so far, under the lock: one process at a time."""
        with private_files.locked(self._fd, _LOCK):
            try:
                record = json.loads(self._read(_ISSUED))
                if record["version"] > _VERSION:
                    raise LevityError(f"{DIRECTORY}/{_ISSUED} was written by a newer levity")
                table = [_Certificate(**one) for one in record["issued"]]
                for one in table:
                    int(one.serial, 16)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise LevityError(f"{DIRECTORY}/{_ISSUED} is damaged") from error
            yield table

    def _store(self, table: list[_Certificate]) -> None:
        private_files.replace(self._fd, _ISSUED, _dump(table))


def _dump(table: list[_Certificate]) -> bytes:
    return json.dumps({"version": _VERSION, "issued": [asdict(one) for one in table]}).encode("ascii")
