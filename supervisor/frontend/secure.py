"""TLS on the way in. Runs in: front-end, all threads. Owns: the context, and in it the server's key."""

import os
import socket
import threading

from levity import tls
from levity.errors import AuthenticationError
from supervisor.frontend.engine_link import EngineLink
from supervisor.say import say
from supervisor.settings import Tls
from supervisor.spool.records import JsonObject

__all__ = ["NOT_NOW", "Encrypted", "Secure", "WentAway", "client_facts"]

# What a call on a non-blocking connection raises, with TLS and without.
NOT_NOW = (*tls.WANTS, BlockingIOError)
Encrypted = tls.SSLSocket
# A client that closed its connection in the middle of TLS.
WentAway = tls.SSLEOFError
_ENGINE_S = 10.0


class Secure:
    """Speaks TLS as the server. `binding` is what proofs over a token are bound to: our certificate.

    Only the engine can read the list of revoked certificates, and sees when there is another one.
    """

    def __init__(self, settings: Tls, link: EngineLink, *, has_crl: bool) -> None:
        self.binding = tls.own_binding(settings.certificate)
        self._settings = settings
        self._link = link
        self._has_crl = has_crl
        self._lock = threading.Lock()
        self._crl_version = ""  # guarded by self._lock
        self._is_broken = False  # guarded by self._lock
        self._context: tls.SSLContext | None = None if has_crl else self._make_context(None)  # guarded by self._lock

    def _make_context(self, crl: bytes | None) -> tls.SSLContext:
        its = self._settings
        return tls.server_context(its.certificate, its.key, its.client_ca, crl)

    def wrap(self, connection: socket.socket) -> tuple[tls.SSLSocket, str]:
        """Return the connection as one that speaks TLS, and by which list of revoked certificates clients are judged.

        `connection` is used up. What the engine refuses is raised.
        """
        context, version = self._current()
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), version

    def _current(self) -> tuple[tls.SSLContext, str]:
        with self._lock:
            if self._has_crl:
                self._refresh()
            assert self._context is not None
            return self._context, self._crl_version

    def _refresh(self) -> None:
        found, fd = self._link.fetch("tls.crl", {"known": self._crl_version}, _ENGINE_S)
        if fd < 0:
            return
        try:
            self._context = self._make_context(_read_whole(fd))
        except (tls.SSLError, ValueError) as error:
            # Nobody is let in by a certificate that may be revoked.
            if not self._is_broken:
                say(f"levityd: the list of revoked certificates is no good ({error}): nobody can connect until it is")
            self._is_broken = True
            raise AuthenticationError("levityd cannot read its list of revoked certificates") from None
        self._crl_version, self._is_broken = found["version"], False


def client_facts(connection: tls.SSLSocket, crl_version: str) -> JsonObject:
    """Return what the engine wants to know of a certificate that was verified."""
    names, not_after = tls.certificate_facts(connection)
    return {"names": names, "not_after": not_after, "crl": crl_version}


def _read_whole(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()
