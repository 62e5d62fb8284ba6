"""Tickets: signed records of what the engine found out about clients. Runs in: engine. Owns: ticket.key.

The front-end keeps a client's ticket and shows it with each request of that client. The front-end cannot make one up,
for it does not have the key. A ticket is good for every engine of this levityd, so a connection outlives the engine
that let it in. Each start of levityd makes a new key.
"""

import hmac
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache

from levity.errors import AuthenticationError
from levity.protocol.token_proof import is_same
from supervisor.log import log
from supervisor.security import private_files as private
from supervisor.security.principal import Principal
from supervisor.security.roles import Role
from supervisor.settings import TICKET_KEY, Known

__all__ = ["STALE", "Client", "Ticket", "open_ticket", "sign_ticket", "ticket_key"]

STALE = "what let this client in does not hold any more: connect again"

_VERSION = 2
_KEY_BYTES = 32


# A ticket of a user in thousands of groups is not kept: it may be large.
_SMALL = 4096


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the engine found out about a client as it let it in.

    * `principal`: the user, with the role that it had then
    * `peer`: from where it connects, for the audit
    * `issued_s`: when, in monotonic seconds
    * `token_mark`: which token it has, where it is known by one
    * `not_after`, `crl_version`: the end of its certificate (epoch), and by which list of revoked ones it was judged
    """

    known: Known
    principal: Principal
    peer: str
    issued_s: float
    token_mark: str = ""
    not_after: float = 0.0
    crl_version: str = ""

    def to_json(self) -> bytes:
        """Return it as it is signed."""
        who = self.principal
        facts = {
            "version": _VERSION,
            "known": self.known,
            "user": who.user,
            "role": who.role,
            "uid": who.uid,
            "gid": who.gid,
            "groups": who.groups,
            "peer": self.peer,
            "issued_s": self.issued_s,
            "token_mark": self.token_mark,
            "not_after": self.not_after,
            "crl_version": self.crl_version,
        }
        return json.dumps(facts, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Ticket":
        """Read what `to_json` wrote; AuthenticationError, "connect again", for the form of another version."""
        try:
            facts = json.loads(data)
            _check_version(facts["version"])
            groups = facts["groups"]
            principal = Principal(
                facts["user"],
                Role(facts["role"]),
                facts["uid"],
                facts["gid"],
                None if groups is None else tuple(groups),
            )
            return cls(
                Known(facts["known"]),
                principal,
                facts["peer"],
                facts["issued_s"],
                facts["token_mark"],
                facts["not_after"],
                facts["crl_version"],
            )
        except (ValueError, KeyError, TypeError):
            raise AuthenticationError(STALE) from None


def _check_version(version: object) -> None:
    if version != _VERSION:
        raise ValueError


@dataclass(frozen=True)
class Client:
    """A client that is let in: `principal`, from where (`peer`, for the audit), and its signed `ticket`."""

    principal: Principal
    peer: str
    ticket: str


def sign_ticket(key: bytes, ticket: Ticket) -> str:
    """Return the text that the front-end shows."""
    body = urlsafe_b64encode(ticket.to_json()).decode()
    return f"{body}.{_signature(key, body)}"


def open_ticket(key: bytes, text: str) -> Ticket:
    """Return the ticket in a text that was signed with `key`; AuthenticationError for any other text."""
    return _open_again(key, text) if len(text) <= _SMALL else _open(key, text)


def _open(key: bytes, text: str) -> Ticket:
    body, _dot, signature = text.partition(".")
    if not is_same(_signature(key, body).encode(), signature.encode("ascii", "replace")):
        raise AuthenticationError("the client is not known")
    try:
        data = urlsafe_b64decode(body)
    except ValueError:
        raise AuthenticationError(STALE) from None
    return Ticket.from_json(data)


# A client shows its ticket with each request. What opened once opens again; a text that does not open is not kept.
_open_again = lru_cache(maxsize=1024)(_open)


def _signature(key: bytes, body: str) -> str:
    return hmac.digest(key, body.encode("ascii", "replace"), "sha256").hex()


def ticket_key() -> bytes:
    """Return the key that signs tickets, made when there is none.

    Where the disk does not take a new key, it is good for as long as this engine lives: then clients connect again.
    """
    try:
        return _stored_key()
    except OSError as error:
        log(f"levityd: {TICKET_KEY} cannot be stored ({error.strerror}): clients connect again if the engine ends")
        return os.urandom(_KEY_BYTES)


def _stored_key() -> bytes:
    fd = private.open_directory(".")
    try:
        try:
            key = private.read(fd, TICKET_KEY, _KEY_BYTES + 1)
        except private.NotPrivateError:
            key = b""
        if key is None or len(key) != _KEY_BYTES:
            if key is not None:
                os.unlink(TICKET_KEY, dir_fd=fd)  # levityd did not make it. Connected clients have to connect again.
            key = os.urandom(_KEY_BYTES)
            private.create(fd, TICKET_KEY, key)
        return key
    finally:
        os.close(fd)
