"""Addresses of a levityd, and the default places. Runs in: client, arbiter, front-end. Owns: nothing."""

import os
from _socket import AF_INET, AF_INET6, inet_pton  # not `socket`: see transport/connection.py

from levity.errors import BadAddress

__all__ = ["SYSTEM_SOCKET", "Address", "default_address", "is_loopback", "parse_address", "state_directory"]

# sun_path is 108 bytes with its NUL (unix(7)).
SOCKET_PATH_LIMIT = 107
# Where root's levityd listens, for all users of the host.
SYSTEM_SOCKET = "/run/levity/levity.sock"
# How a loopback address begins: 127.0.0.0/8; ::1, or 127.0.0.0/8 mapped into IPv6 (RFC 4291, 2.5.3 and 2.5.5.2).
_LOOPBACK = {AF_INET: (b"\x7f",), AF_INET6: (bytes(15) + b"\1", bytes(10) + b"\xff\xff\x7f")}


class Address:
    """Either a unix socket's `path` (host is "") or a TCP `host` and `port`."""

    __slots__ = ("host", "path", "port")

    def __init__(self, host: str = "", port: int = 0, path: str = "") -> None:
        self.host = host
        self.port = port
        self.path = path

    @property
    def is_unix(self) -> bool:
        """Whether this is a unix socket."""
        return bool(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Address {self}>"


def parse_address(text: str) -> Address:
    """Read `HOST:PORT`, `[IPV6]:PORT` or `unix:/path`; for any other text BadAddress says what is wrong."""
    if text.startswith("unix:"):
        return _unix_address(text[len("unix:") :])
    if "/" in text:
        raise BadAddress(f"address {text!r}: a unix socket is written unix:{text}")
    host, colon, port = text.rpartition(":")
    if not colon:
        raise BadAddress(f"address {text!r}: the port is missing; write HOST:PORT, [IPV6]:PORT or unix:/path")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if host and ":" not in host:
            raise BadAddress(f"address {text!r}: only an IPv6 address stands in brackets")
    elif ":" in host:
        raise BadAddress(f"address {text!r}: an IPv6 address is written [{host}]:{port}")
    if not host:
        raise BadAddress(f"address {text!r}: the host is missing; 127.0.0.1:{port} is this machine")
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65535 and len(port) <= 5):
        raise BadAddress(f"address {text!r}: {port!r} is no port (a number from 0 to 65535)")
    return Address(host=host, port=int(port))


def _unix_address(path: str) -> Address:
    if not path:
        raise BadAddress("address 'unix:': the path is missing")
    # Before abspath(), which in some versions of Python cuts the path at a NUL.
    if "\0" in path:
        raise BadAddress(f"address {'unix:' + path!r}: a path holds no NUL")
    path = os.path.abspath(path)
    try:
        length = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise BadAddress(f"address {'unix:' + path!r}: the path holds what no file name can") from None
    if length > SOCKET_PATH_LIMIT:
        raise BadAddress(
            f"address {'unix:' + path!r}: the path is longer than the {SOCKET_PATH_LIMIT} bytes a socket may have"
        )
    return Address(path=path)


def is_loopback(host: str) -> bool:
    """Whether an IP address, in digits, is reached from this host only; False for what is no IP address."""
    for family, prefixes in _LOOPBACK.items():
        try:
            packed = inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return packed.startswith(prefixes)
    return False


def state_directory(environ: "os._Environ[str] | dict[str, str]") -> str:
    """Return the default state directory, an absolute path; BadAddress where no home directory is known."""
    if given := environ.get("LEVITY_STATE_DIR"):
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return "/var/lib/levity"
    # The XDG base directory specification: a relative path there is to be ignored.
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        base = os.path.expanduser("~/.local/state")
    if not base.startswith("/"):
        raise BadAddress("no home directory is known for the state directory; set LEVITY_STATE_DIR or HOME")
    return os.path.join(base, "levity")


def default_address(environ: "os._Environ[str] | dict[str, str]", system_socket: str = SYSTEM_SOCKET) -> Address:
    """Return the address that a client takes if it is given none.

    That is `$LEVITY_ADDR`, else the socket in `$LEVITY_STATE_DIR`, else the socket of the user's own levityd in the
    default state directory. If that is not there, and always for root: the socket of root's levityd.
    """
    if given := environ.get("LEVITY_ADDR"):
        return parse_address(given)
    if not environ.get("LEVITY_STATE_DIR") and os.geteuid() == 0:
        return Address(path=system_socket)
    own = os.path.join(state_directory(environ), "levity.sock")
    if not environ.get("LEVITY_STATE_DIR") and not os.path.lexists(own) and os.path.exists(system_socket):
        return Address(path=system_socket)
    return _unix_address(own)
