"""The directory of a certificate authority, `certs` in the state directory. Runs in: arbiter. Owns: what is in there.

`issued.json` is written before a certificate is, so that there is none that cannot be revoked.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from levity.errors import Conflict, InvalidRequest, LevityError
from supervisor.arbiter.certificates.self_signed import EXTRA_IS_MISSING
from supervisor.arbiter.startup_error import CONFIGURATION, RefusedError
from supervisor.security import private_files as private

__all__ = ["DIRECTORY", "CertificateDirectory", "init"]

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
    """One that was issued; `revoked_at` is 0 as long as it counts. Times in seconds since 1970."""

    user: str
    serial: str  # In hexadecimal: a JSON number is not for everybody exact to 160 bits.
    ends_at: int
    revoked_at: int = 0


def _tools() -> ModuleType:
    """Return what makes certificates; RefusedError where it is not installed."""
    try:
        from supervisor.arbiter.certificates import x509 as certificates
    except ImportError as error:
        raise RefusedError(EXTRA_IS_MISSING, CONFIGURATION) from error
    return certificates


def init(host: str, names: list[str]) -> None:
    """Make an authority, and a certificate for a server of these names; Conflict if there is one."""
    tools = _tools()
    state = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # Whole or not at all: made under another name.
    unfinished = f".{DIRECTORY}.{os.urandom(8).hex()}"
    try:
        if os.path.lexists(DIRECTORY):
            raise Conflict(f"there is a directory {DIRECTORY} already; move it away to make another authority")
        fd = private.make_directory(unfinished, state)
        try:
            _fill(tools, fd, host, names)
            os.rename(unfinished, DIRECTORY)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        finally:
            os.close(fd)
        os.fsync(state)
    finally:
        os.close(state)


def _fill(tools: ModuleType, fd: int, host: str, names: list[str]) -> None:
    ca_key, server_key = tools.make_key(), tools.make_key()
    ca = tools.make_authority(ca_key, host)
    authority = tools.Authority(ca, ca_key)
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
        private.create(fd, name, data)


class CertificateDirectory:
    """An authority that was made; LevityError if there is none, or it is damaged."""

    def __init__(self) -> None:
        self._tools = _tools()
        try:
            self._fd = private.open_directory(DIRECTORY)
        except FileNotFoundError:
            raise LevityError("there is no authority yet; levityd certs init makes one") from None
        except private.NotPrivateError as error:
            raise LevityError(f"{DIRECTORY}: {error.message}") from error
        try:
            self._authority = self._load_authority()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<CertificateDirectory {self._authority!r}>"

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
            key = self._tools.make_key()
            issued = self._authority.issue_client(key, user, days)
            table.append(_Certificate(user, f"{issued.serial:x}", issued.ends_at))
            self._store(table)
            private.create(self._fd, f"{user}.key", key)
            private.create(self._fd, f"{user}.pem", issued.certificate)

    def revoke(self, user: str) -> int:
        """Put every certificate of a user in the list of those revoked; return how many were not yet.

        LevityError if none was ever issued. Where it was stopped half-way, once more does the rest.
        """
        with self._table() as table:
            own = [one for one in table if one.user == user]
            if not own:
                raise LevityError(f"no certificate was issued to {user!r} here")
            fresh = [one for one in own if not one.revoked_at]
            for one in fresh:
                one.revoked_at = int(time.time())
            self._store(table)
            revoked = [(int(one.serial, 16), one.revoked_at) for one in table if one.revoked_at]
            private.replace(self._fd, _CRL, self._authority.list_revoked(revoked))
            for name in (f"{user}.pem", f"{user}.key"):
                try:
                    os.unlink(name, dir_fd=self._fd)
                except FileNotFoundError:
                    pass
        return len(fresh)

    def _load_authority(self) -> Any:
        try:
            found = [self._read(f"{_CA}.{kind}") for kind in ("pem", "key")]
            return self._tools.Authority(*found)
        except ValueError as error:
            raise LevityError(f"{DIRECTORY}/{_CA}.pem and {_CA}.key are damaged: {error}") from error

    def _read(self, name: str) -> bytes:
        try:
            data = private.read(self._fd, name, _SIZE_LIMIT)
        except private.NotPrivateError as error:
            raise LevityError(f"{DIRECTORY}/{name}: {error.message}") from error
        if data is None:
            raise LevityError(f"{DIRECTORY}/{name} is missing")
        return data

    @contextmanager
    def _table(self) -> Iterator[list[_Certificate]]:
        """Give what was issued so far, to nobody else meanwhile."""
        with private.locked(self._fd, _LOCK):
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
        private.replace(self._fd, _ISSUED, _dump(table))


def _dump(table: list[_Certificate]) -> bytes:
    return json.dumps({"version": _VERSION, "issued": [asdict(one) for one in table]}).encode("ascii")
