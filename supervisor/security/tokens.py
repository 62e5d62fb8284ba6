"""The tokens and roles in a state directory. Runs in: arbiter (to make them), engine (to check). Owns: those files.

`token` is that of levityd's own user, which levityd makes; `tokens/NAME` are the others; `roles.json` has the roles of
users with certificates. A file that other users can read or write is not believed. No key and no part of a file is ever
in an error or a message.
"""

import json
import os
import pwd
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from levity.errors import Conflict, InvalidRequest, LevityError
from levity.protocol.token_proof import KEY_BYTES, format_token, is_nonce_of, parse_token
from supervisor.hostos.files import sync_path
from supervisor.log import log
from supervisor.security import private_files as private
from supervisor.security.principal import is_user_name, local_user
from supervisor.security.private_files import NotPrivateError
from supervisor.security.roles import Role

__all__ = ["TOKENS_LIMIT", "Token", "TokenStore", "check_user_name", "own_name"]

TOKENS_LIMIT = 1000

_OWN = "token"
_OTHERS = "tokens"
_ROLES = "roles.json"
_LOCK = "tokens.lock"
_VERSION = 1
_TOKEN_BYTES_LIMIT = 4096
_ROLES_BYTES_LIMIT = 1024 * 1024
# Two changes within a tick of the kernel's clock (1 to 10 ms) give a file the same times.
_YOUNG_NS = 10**9

Version = tuple[int, ...]


def own_name() -> str:
    """Return the user that levityd itself is."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        name = ""
    return local_user(name, uid)


@dataclass(frozen=True)
class Token:
    """A key, and the user and role of a client that has it."""

    name: str
    role: Role
    key: bytes = field(repr=False)
    created_ns: int

    @property
    def text(self) -> str:
        """The token as it is given to its user."""
        return format_token(self.key)


class TokenStore:
    """The tokens of one state directory, which is kept open. They are read again when `version` changes."""

    def __init__(self, directory: str = ".") -> None:
        self._fd = private.open_directory(directory)
        self._said: set[str] = set()
        self._known: list[Token] = []
        self._known_version: Version | None = None

    def __repr__(self) -> str:
        return f"<TokenStore of {len(self._known)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the state directory."""
        os.close(self._fd)

    def version(self) -> Version:
        """Return a value that changes with each token or role that is added, changed or revoked; costs three stat(2).

        It looks at when they changed, the directory of the others as a whole. In the first second after a change every
        call returns something new, for a second change would not show in the times. A file in `tokens` that is written
        to in place (levityd does not do that) does not show at all.
        """
        now = time.time_ns()
        seen: list[int] = []
        is_young = False
        for name in (_OWN, _OTHERS, _ROLES):
            try:
                found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except OSError:
                seen.append(0)
                continue
            seen += [found.st_ino, found.st_size, found.st_mode, found.st_uid, found.st_mtime_ns, found.st_ctime_ns]
            is_young = is_young or abs(now - found.st_ctime_ns) < _YOUNG_NS
        return (*seen, time.monotonic_ns()) if is_young else tuple(seen)

    def own(self) -> Token | None:
        """Return the token of levityd's own user, an admin; None if there is none that can be believed."""
        try:
            return self._load_own()
        except (LevityError, OSError) as error:
            self._warn(_OWN, error)
            return None

    def ensure_own(self) -> Token:
        """Return the token of levityd's own user, made if it was missing.

        LevityError if the file cannot be believed. An operator who finds out why may remove it; then a new one is made.
        """
        try:
            with private.locked(self._fd, _LOCK):
                token = self._load_own()
                if token is None:
                    private.create(self._fd, _OWN, f"{format_token(os.urandom(KEY_BYTES))}\n".encode("ascii"))
                    token = self._load_own()
        except (LevityError, OSError) as error:
            raise _no_good(_OWN, error) from error
        assert token is not None
        return token

    def all(self) -> list[Token]:
        """Return every token that can be believed, the one of levityd's own user first."""
        own = self.own()
        return [*([] if own is None else [own]), *self._load_others()]

    def known(self) -> list[Token]:
        """Return the same as `all`; the files are read again only when they have changed."""
        version = self.version()  # Before the files are read: a change meanwhile has them read again.
        if version != self._known_version:
            self._known, self._known_version = self.all(), version
        return self._known

    def by_nonce(self, nonce: bytes) -> Token | None:
        """Return the token with which a client made its nonce; None if that is none of ours."""
        return next((token for token in self.known() if is_nonce_of(token.key, nonce)), None)

    def get(self, name: str) -> Token | None:
        """Return the token of a user; None if there is none that can be believed."""
        return next((token for token in self.all() if token.name == name), None)

    def add(self, name: str, role: Role) -> Token:
        """Make a token for a user who has none; InvalidRequest, Conflict, LevityError."""
        check_user_name(name)
        if name == own_name():
            raise Conflict(f"{name} is levityd's own user, who has a token already: levityd token show")
        token = Token(name, role, os.urandom(KEY_BYTES), time.time_ns())
        record = {"version": _VERSION, "token": token.text, "role": str(role), "created_ns": token.created_ns}
        try:
            with private.locked(self._fd, _LOCK):
                fd = private.make_directory(_OTHERS, self._fd)
                try:
                    if len(_names(fd)) >= TOKENS_LIMIT:
                        raise LevityError(f"there are {TOKENS_LIMIT} tokens already; revoke one first")
                    private.create(fd, name, json.dumps(record).encode("ascii"))
                finally:
                    os.close(fd)
        except FileExistsError:
            raise Conflict(f"{name} has a token already; levityd token revoke {name} takes it away") from None
        except (NotPrivateError, OSError) as error:
            raise _no_good(_OTHERS, error) from error
        return token

    def revoke(self, name: str) -> None:
        """Take away the token of a user, also one that is damaged; LevityError if there is none.

        Of levityd's own user's, a new one is made by ensure_own().
        """
        path = _OWN if name == own_name() else f"{_OTHERS}/{name}"
        unknown = LevityError(f"no token belongs to {name!r}; levityd token list names those there are")
        if path != _OWN and not is_user_name(name):
            raise unknown
        try:
            with private.locked(self._fd, _LOCK):
                os.unlink(path, dir_fd=self._fd)
                sync_path(os.path.dirname(path) or ".", self._fd)
        except (FileNotFoundError, NotADirectoryError):
            raise unknown from None
        except OSError as error:
            raise _no_good(path, error) from error

    def roles(self) -> dict[str, Role]:
        """Return the roles of users with certificates; any other user is a `user`.

        LevityError if the file cannot be believed or understood: a viewer would be taken for a user, so no client with
        a certificate may be let in then.
        """
        try:
            data = private.read(self._fd, _ROLES, _ROLES_BYTES_LIMIT)
            if data is None:
                return {}
            table = json.loads(data)
            return {_user_of_role(name): Role(role) for name, role in table.items()}
        except (NotPrivateError, OSError) as error:
            raise _no_good(_ROLES, error) from error
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise LevityError(f"{_ROLES} is damaged; mend it, or remove it and give the roles again") from None

    def set_role(self, user: str, role: Role | None) -> None:
        """Give a user with a certificate a role; None takes it away again. LevityError."""
        check_user_name(user)
        try:
            with private.locked(self._fd, _LOCK):
                roles = self.roles()
                roles.pop(user, None)
                if role is not None:
                    roles[user] = role
                data = json.dumps(roles, sort_keys=True).encode("ascii")
                if len(data) >= _ROLES_BYTES_LIMIT:
                    raise LevityError(f"{_ROLES} would be too large")
                private.replace(self._fd, _ROLES, data)
        except OSError as error:
            raise _no_good(_ROLES, error) from error

    def _load_own(self) -> Token | None:
        """Return the token in `token`; None if the file is missing."""
        data = private.read(self._fd, _OWN, _TOKEN_BYTES_LIMIT)
        if data is None:
            return None
        return Token(own_name(), Role.ADMIN, _key(data.decode("ascii", "replace")), self._changed_ns(_OWN))

    def _changed_ns(self, name: str) -> int:
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mtime_ns

    def _open_others(self) -> int | None:
        try:
            return private.open_directory(_OTHERS, self._fd)
        except FileNotFoundError:
            pass
        except (LevityError, OSError) as error:
            self._warn(_OTHERS, error)
        return None

    def _load_others(self) -> list[Token]:
        fd = self._open_others()
        if fd is None:
            return []
        try:
            names = sorted(_names(fd))
            if len(names) > TOKENS_LIMIT:
                self._warn(_OTHERS, LevityError(f"of {len(names)} only the first {TOKENS_LIMIT} count; the others are"))
            found = (self._load_other(fd, name) for name in names[:TOKENS_LIMIT])
            return [token for token in found if token is not None]
        finally:
            os.close(fd)

    def _load_other(self, fd: int, name: str) -> Token | None:
        try:
            data = private.read(fd, name, _TOKEN_BYTES_LIMIT)
            return None if data is None else _parse(name, data)
        except (LevityError, OSError) as error:
            self._warn(f"{_OTHERS}/{name}", error)
            return None

    def _warn(self, path: str, error: LevityError | OSError) -> None:
        """Log which file is ignored, and why; once."""
        line = f"levityd: ignored {_no_good(path, error).message}"
        if line not in self._said:
            if len(self._said) > TOKENS_LIMIT:
                self._said.clear()
            self._said.add(line)
            log(line)


def check_user_name(name: str) -> None:
    """InvalidRequest for a name that no user with a token or a certificate can have."""
    if not is_user_name(name):
        raise InvalidRequest(
            f"{name!r} is no name for a user: up to 64 letters, digits and . _ -, of which . and - not first"
        )


def _names(fd: int) -> list[str]:
    return [name for name in os.listdir(fd) if is_user_name(name)]


def _key(text: str) -> bytes:
    try:
        return parse_token(text)
    except InvalidRequest:
        raise LevityError("it is damaged") from None


def _parse(name: str, data: bytes) -> Token:
    # `from None`, here and elsewhere: a parser's error shows the text that it parsed.
    try:
        record = json.loads(data)
        version, text, created_ns = record["version"], record["token"], record["created_ns"]
        role = Role(record["role"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise LevityError("it is damaged") from None
    if not (isinstance(version, int) and isinstance(text, str) and isinstance(created_ns, int)):
        raise LevityError("it is damaged")
    if version > _VERSION:
        raise LevityError("it was written by a newer levity")
    return Token(name, role, _key(text), created_ns)


def _user_of_role(name: str) -> str:
    if not is_user_name(name):
        raise ValueError
    return name


def _no_good(path: str, error: LevityError | OSError) -> LevityError:
    return LevityError(f"{path}: {error.message if isinstance(error, LevityError) else error.strerror}")
