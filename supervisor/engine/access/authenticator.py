"""Authenticate clients: judge what a client shows, and give it a ticket. Runs in: engine. Owns: nothing.

The front-end talks to unauthenticated peers, so it holds no tokens and decides nothing. It shows the engine a client's
socket, or passes proofs on, and gets a ticket, which it shows with each request of that client. Tokens, roles,
revocations and dates may change, so they are looked up with each request.
"""

import hmac
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from levity.errors import AuthenticationError, InvalidRequest, LevityError, Unavailable
from levity.protocol.token_proof import NONCE_BYTES, client_proof, is_same, server_proof
from supervisor.engine.access.accounts import user_name
from supervisor.engine.access.tickets import STALE, Client, Ticket, open_ticket, sign_ticket
from supervisor.hostos.peers import has_left, is_accepted, peer_credentials
from supervisor.log import log
from supervisor.security.principal import Principal, is_user_name
from supervisor.security.roles import Role
from supervisor.security.tokens import Token, TokenStore
from supervisor.settings import Access, Known
from supervisor.spool.records import JsonObject

__all__ = ["Authenticator", "WrongUserError", "file_version"]

_UNKNOWN = "levityd does not know this token; `levity login` stores another one"
_BINDING_LIMIT = 256
# As long as a client has for it (supervisor/frontend/admission/handshake.py), and a little more.
_DIALOGUE_S = 12.0
_TIME_BYTES = 8
# levityd hangs up on a client that is connected for longer; levity's own client connects again by itself. So the
# tickets that an attacker found in the front-end are of use for a day at most.
_TICKET_AGE_S = 24 * 3600.0


class WrongUserError(AuthenticationError):
    """The process is known, `peer`, but its user is not let in."""

    def __init__(self, message: str, peer: str) -> None:
        super().__init__(message)
        self.peer = peer


class Authenticator:
    """Lets clients in, in the way of `access.known`, and knows them by their tickets; AuthenticationError if not.

    `key` is what this state directory's secrets are made with, `monotonic()` and `wall()` are clocks, in seconds.
    """

    def __init__(
        self,
        access: Access,
        address: str,
        store: TokenStore,
        key: bytes,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._address = address
        self._store = store
        self.key = key
        self._monotonic = monotonic
        self._wall = wall
        self._roles_version: object = None
        self._roles: dict[str, Role] | None = {}
        self.crl_path = access.crl_path
        self.frontend_uid = access.frontend_ids[0] if access.frontend_ids else None
        self.own_uid = os.geteuid()
        self.own_user = user_name(self.own_uid)

    def __repr__(self) -> str:
        return f"<Authenticator {self._access.known}, {self._store!r}>"

    # Letting in

    def by_peer(self, fd: int) -> Client:
        """Let in the process at the other end of a unix socket that was accepted on our address (unix(7))."""
        self._expect(Known.PEER)
        pid, uid, gid, groups = self._see(fd)
        peer = f"unix: process {pid}, uid {uid}"
        if self.own_uid not in {uid, 0}:
            raise WrongUserError(
                f"this is the levityd of {self.own_user}, who alone may use it; root may become that user (runuser)",
                peer,
            )
        role = Role.ADMIN if uid == self.own_uid else Role.USER
        who = Principal(user_name(uid), role, uid, gid, None if groups is None else tuple(groups))
        return self._let_in(Ticket(Known.PEER, who, peer, self._monotonic()))

    def _see(self, fd: int) -> tuple[int, int, int, list[int] | None]:
        try:
            shown = socket.socket(fileno=fd)
        except OSError:
            raise AuthenticationError("that is no connection") from None
        try:
            if not is_accepted(shown, self._address.removeprefix("unix:")) or has_left(shown):
                raise AuthenticationError("that is no connection to this levityd")
            return peer_credentials(shown)
        except OSError as error:
            raise AuthenticationError(f"levityd cannot tell who connects: {error.strerror}") from None
        finally:
            shown.detach()  # The caller owns the descriptor.

    def make_nonce(self) -> bytes:
        """Return a nonce for the server's part of a dialogue: only ours are taken, and only for the time of one.

        So a dialogue that an attacker has recorded, in the front-end say, is of no use later.
        """
        self._expect(Known.TOKEN)
        fresh = int(self._monotonic() * 1000).to_bytes(_TIME_BYTES, "big") + os.urandom(_TIME_BYTES)
        return fresh + self._seal(fresh)

    def _seal(self, fresh: bytes) -> bytes:
        return hmac.digest(self.key, b"levity 1 server nonce" + fresh, "sha256")[: NONCE_BYTES - 2 * _TIME_BYTES]

    def _talk(self, params: JsonObject) -> tuple[bytes, bytes, bytes]:
        """Return (server's nonce, client's nonce, binding) of a dialogue."""
        nonce, client_nonce = _bytes_of(params, "server_nonce"), _bytes_of(params, "client_nonce")
        binding = _bytes_of(params, "binding")
        if len(nonce) != NONCE_BYTES or len(client_nonce) != NONCE_BYTES or len(binding) > _BINDING_LIMIT:
            raise InvalidRequest("a nonce or a binding is of the wrong length")
        made_s = int.from_bytes(nonce[:_TIME_BYTES], "big") / 1000
        fresh, seal = nonce[: 2 * _TIME_BYTES], nonce[2 * _TIME_BYTES :]
        if not is_same(self._seal(fresh), seal) or self._monotonic() - made_s > _DIALOGUE_S:
            raise AuthenticationError("the proof took too long, or is one of an earlier connection")
        return nonce, client_nonce, binding

    def begin(self, params: JsonObject) -> bytes:
        """Return the proof that we have the token by which a client's nonce was made."""
        server_nonce, client_nonce, binding = self._talk(params)
        return server_proof(self._token_of(client_nonce).key, server_nonce, client_nonce, binding)

    def by_proof(self, params: JsonObject, peer: str) -> Client:
        """Let in a client that proves to have the token of its nonce."""
        server_nonce, client_nonce, binding = self._talk(params)
        token = self._token_of(client_nonce)
        if not is_same(client_proof(token.key, server_nonce, client_nonce, binding), _bytes_of(params, "proof")):
            raise AuthenticationError(_UNKNOWN)
        self._guard_own_name(token.name, token.role)
        who = Principal(token.name, token.role)
        return self._let_in(Ticket(Known.TOKEN, who, peer, self._monotonic(), token_mark=_mark(token)))

    def by_certificate(self, params: JsonObject, peer: str) -> Client:
        """Let in a client whose certificate the front-end verified: its common names, its end `not_after` (epoch)."""
        self._expect(Known.CERTIFICATE)
        names, not_after = params.get("names"), params.get("not_after")
        if (
            not isinstance(names, list)
            or len(names) != 1
            or not isinstance(names[0], str)
            or not is_user_name(names[0])
        ):
            raise AuthenticationError(
                "the certificate has no common name that can be a user's, or more than one: have another one made"
            )
        if params.get("is_clients") is not True:
            raise AuthenticationError(
                "the certificate is not one for clients (extended key usage), or is a CA's: have another one made"
            )
        if isinstance(not_after, bool) or not isinstance(not_after, int | float) or not_after < self._wall():
            raise AuthenticationError("the certificate has expired: have a new one made")
        crl_version = self.crl_version()
        if params.get("crl") != crl_version:
            raise Unavailable("the list of revoked certificates has just changed; connect again")
        role = self._role_of(names[0])
        self._guard_own_name(names[0], role)
        who = Principal(names[0], role)
        ticket = Ticket(
            Known.CERTIFICATE,
            who,
            peer,
            self._monotonic(),
            not_after=not_after,
            crl_version=crl_version,
        )
        return self._let_in(ticket)

    def crl_version(self) -> str:
        """Return the version of the file of revoked certificates; "" if there is none."""
        return file_version(self.crl_path) if self.crl_path else ""

    # Knowing again

    def recognise(self, text: str) -> Client:
        """Return whose ticket this is, if it still holds."""
        ticket = open_ticket(self.key, text)
        role = self._role_by(ticket)
        if role is None or self._monotonic() > ticket.issued_s + _TICKET_AGE_S:
            raise AuthenticationError(STALE)
        principal = ticket.principal if role is ticket.principal.role else replace(ticket.principal, role=role)
        return Client(principal, ticket.peer, text)

    def _role_by(self, ticket: Ticket) -> Role | None:
        """Return the role that a client has by now; None if its token or certificate does not hold any more."""
        if ticket.known is Known.TOKEN:
            return next((token.role for token in self._store.known() if _mark(token) == ticket.token_mark), None)
        if ticket.known is Known.CERTIFICATE:
            is_good = ticket.not_after >= self._wall() and ticket.crl_version == self.crl_version()
            return self._role_of(ticket.principal.user) if is_good else None
        return ticket.principal.role

    def once_known(self, text: str) -> tuple[str, str | None]:
        """Return peer and user of a ticket, be it stale, for the audit; "?" and None if levityd did not sign it."""
        try:
            ticket = open_ticket(self.key, text)
        except AuthenticationError:
            return "?", None
        return ticket.peer, ticket.principal.user

    def _let_in(self, ticket: Ticket) -> Client:
        return Client(ticket.principal, ticket.peer, sign_ticket(self.key, ticket))

    def _token_of(self, client_nonce: bytes) -> Token:
        self._expect(Known.TOKEN)
        token = self._store.by_nonce(client_nonce)
        if token is None:
            raise AuthenticationError(_UNKNOWN)
        return token

    def _role_of(self, user: str) -> Role:
        """Return the role of a user with a certificate; AuthenticationError if roles.json cannot be read."""
        version = self._store.version()
        if version != self._roles_version:
            try:
                self._roles = self._store.roles()
            except LevityError as error:
                log(f"levityd: {error.message}; nobody is let in by a certificate until it is")
                self._roles = None
            self._roles_version = version
        if self._roles is None:
            raise AuthenticationError("levityd cannot read which role its users have")
        return self._roles.get(user, Role.USER)

    def _expect(self, known: Known) -> None:
        if self._access.known is not known:
            raise AuthenticationError("clients are not known in this way here")

    def _guard_own_name(self, user: str, role: Role) -> None:
        """Refuse levityd's own name, which owns levityd's own tasks, to all but administrators."""
        if user == self.own_user and role is not Role.ADMIN:
            raise AuthenticationError(f"{user} is levityd's own user, and so the name of an administrator only")


def file_version(path: str) -> str:
    """Return a text that differs once a file was changed or replaced; "missing" if it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return "missing"
    return f"{found.st_ino}.{found.st_size}.{found.st_mtime_ns}.{found.st_ctime_ns}"


def _mark(token: Token) -> str:
    """Return a text that differs from that of a later token of the same name, and tells nothing about the key."""
    return f"{token.name} {hmac.digest(token.key, b'levity 1 mark', 'sha256').hex()}"


def _bytes_of(params: JsonObject, name: str) -> bytes:
    value = params.get(name)
    try:
        return bytes.fromhex(value if isinstance(value, str) else "-")
    except ValueError:
        raise InvalidRequest(f"{name!r} is not in hexadecimal") from None
