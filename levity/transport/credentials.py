"""What a client shows to a levityd over TCP, and where its token is kept. Runs in: client. Owns: the files of tokens.

Each connection reads the token anew, so a changed token counts at once. Never: quotes a token.
"""

import errno
import os
from stat import S_ISREG

from levity.addresses import state_directory
from levity.errors import AuthenticationError, BadAddress, InvalidRequest, LevityError
from levity.protocol.token_proof import format_token, parse_token

__all__ = ["Credentials", "remove_token", "store_token", "token_path"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from levity.addresses import Address

    Environment = os._Environ[str] | dict[str, str]
    FilePath = str | os.PathLike[str]

# What messages call a token that was typed.
GIVEN = "the token that was given"
TOKEN_VARIABLE = "LEVITY_TOKEN_FILE"  # noqa: S105 - the name of a variable
# A token has 71 characters.
_TOKEN_FILE_LIMIT = 1024
# Fail rather than follow a file or link that another user made there.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Credentials:
    """The files of PEM for TLS, whether to speak TLS on loopback, too, and the token's file if not the default.

    The environment has the defaults. A `certificate` without `ca` is refused: a client that shows who it is must know
    to whom.
    """

    __slots__ = ("_environ", "_key", "_token_file", "ca", "certificate", "key", "tls")

    def __init__(
        self,
        ca: "FilePath | None" = None,
        certificate: "FilePath | None" = None,
        key: "FilePath | None" = None,
        tls: bool = False,
        token_file: "FilePath | None" = None,
        environ: "Environment" = os.environ,
    ) -> None:
        if key is not None and certificate is None:
            raise InvalidRequest("a key (-k) belongs to a certificate: give that, too (-c)")
        self.ca = _path(ca) or environ.get("LEVITY_CACERT") or None
        self.certificate = _path(certificate)
        self.key = _path(key)
        if certificate is None:
            # Certificate and key come from one place, or the key might be another certificate's.
            self.certificate = environ.get("LEVITY_CLIENT_CERT") or None
            self.key = environ.get("LEVITY_CLIENT_KEY") or None
            if self.key and not self.certificate:
                raise InvalidRequest("LEVITY_CLIENT_KEY is set, and LEVITY_CLIENT_CERT is not: set both or none")
        if self.certificate and not self.ca:
            raise InvalidRequest(
                "a client certificate is only shown to a server that is known by its own: give the CA's certificate"
                " (--ca, LEVITY_CACERT)"
            )
        self.tls = bool(tls or self.ca or self.certificate)
        self._token_file = _path(token_file)
        self._environ = environ
        self._key: bytes | None = None

    def __repr__(self) -> str:
        return f"<Credentials ca={self.ca} certificate={self.certificate} tls={self.tls}>"

    def use_key(self, key: bytes) -> None:
        """Use this token's key, and look for no other."""
        self._key = key

    def find_key(self, address: "Address", is_loopback: bool) -> tuple[bytes, str]:
        """Return the token's key and its source in words; AuthenticationError if there is no usable token."""
        if self._key is not None:
            return self._key, GIVEN
        for path, must_exist in self._places(address, is_loopback):
            key = _read_token(path, must_exist)
            if key is not None:
                return key, f"the token in {path}"
        raise AuthenticationError(_no_token(address, is_loopback))

    def _places(self, address: "Address", is_loopback: bool) -> list[tuple[str, bool]]:
        """Return the files where the token may be, each with whether it must exist. The first that exists counts."""
        if self._token_file:
            return [(self._token_file, True)]
        if given := self._environ.get(TOKEN_VARIABLE):
            return [(given, True)]
        places = [(token_path(address, self._environ), False)]
        if is_loopback:
            try:
                places.append((os.path.join(state_directory(self._environ), "token"), False))
            except BadAddress:
                pass  # Without a home directory there is no such file.
        return places


def token_path(address: "Address", environ: "Environment" = os.environ) -> str:
    """Return the file where `login` keeps the token of an address; its name is `HOST:PORT` or `[IPV6]:PORT`."""
    name = str(address).lower()
    # This refuses a unix socket's address, too, which has a path in it.
    if "/" in name or "\0" in name:
        raise BadAddress(f"no token can be kept for {str(address)!r}: it is no HOST:PORT")
    # The XDG base directory specification: a relative path there is to be ignored.
    base = environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):
        base = os.path.expanduser("~/.config")
    return os.path.join(base, "levity", "tokens", name)


def store_token(address: "Address", key: bytes) -> str:
    """Store a token for later clients of this user and return its path; LevityError if that fails."""
    path = token_path(address)
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name[:200]}.{os.urandom(8).hex()}")
    try:
        _make_private(directory)
        try:
            _write_new(temporary, f"{format_token(key)}\n".encode("ascii"))
            os.rename(temporary, path)
        except BaseException:
            _unlink(temporary)
            raise
    except OSError as error:
        raise LevityError(f"the token cannot be kept in {path}: {error.strerror}") from error
    return path


def remove_token(address: "Address") -> str | None:
    """Remove a stored token and return its path, None if there was none."""
    path = token_path(address)
    try:
        return path if _unlink(path) else None
    except OSError as error:
        raise LevityError(f"the token in {path} cannot be removed: {error.strerror}") from error


def _path(given: "FilePath | None") -> str | None:
    if given is None:
        return None
    path = os.fspath(given)
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidRequest(f"{given!r} is no name of a file")
    return path


def _read_token(path: str, must_exist: bool) -> bytes | None:
    """Return the key in a file, None without a file; AuthenticationError if others may read it, or it is no token."""
    try:
        # O_NONBLOCK: do not wait for a writer if it is a FIFO.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not must_exist:
            return None
        raise AuthenticationError(
            f"the token's file {path} is not there ({error.strerror}): set {TOKEN_VARIABLE} to another"
        ) from error
    except (OSError, ValueError) as error:
        why = str(error) if isinstance(error, ValueError) else error.strerror
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            why = "it is a symbolic link; name the file itself"
        raise AuthenticationError(f"the token in {path} cannot be read: {why}") from error
    try:
        _check_private(fd, path)
        text = os.read(fd, _TOKEN_FILE_LIMIT)
    except OSError as error:
        raise AuthenticationError(f"the token in {path} cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
    try:
        return parse_token(text.decode("ascii", "replace"))
    except InvalidRequest as error:
        raise AuthenticationError(
            f"{path} holds no token: {error.message}; `levity login` stores one, `levityd token show` tells it"
        ) from None


def _check_private(fd: int, path: str) -> None:
    found = os.fstat(fd)
    if not S_ISREG(found.st_mode):
        raise AuthenticationError(f"the token's file {path} is no regular file: name another one")
    if found.st_uid != os.geteuid():
        raise AuthenticationError(
            f"the token's file {path} is not yours (its owner has uid {found.st_uid}): that user could change it;"
            " copy it to a file of your own"
        )
    if found.st_mode & 0o077:
        raise AuthenticationError(
            f"the token's file {path} is open to others (mode {found.st_mode & 0o777:04o}): `chmod 600` it, and if"
            " somebody may have read it, have the token replaced"
        )


def _no_token(address: "Address", is_loopback: bool) -> str:
    elsewhere = ", or LEVITY_STATE_DIR if it runs with another state directory" if is_loopback else ""
    return (
        f"no token is known for {address}: `levity -a {address} login` stores one, or set {TOKEN_VARIABLE}{elsewhere};"
        " nothing was sent"
    )


def _make_private(directory: str) -> None:
    """Make levity's directory of tokens, for this user only, if it does not exist."""
    ours = os.path.dirname(directory)
    os.makedirs(os.path.dirname(ours), exist_ok=True)
    for path in (ours, directory):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
    found = os.stat(directory)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise LevityError(f"{directory} can be changed by others; `chmod 700` it, or remove it")


def _write_new(path: str, data: bytes) -> None:
    fd = os.open(path, _NEW, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
