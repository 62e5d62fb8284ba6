"""TLS on the way in. Runs in: front-end, all threads. Owns: the context, and in it the server's key.

What it is made of is loaded only where TLS is spoken, and before the front-end gives up its privileges.
"""

import os
import socket
import threading
from typing import TYPE_CHECKING

from levity.errors import AuthenticationError
from supervisor.frontend.engine_link import EngineLink
from supervisor.say import say
from supervisor.settings import Tls
from supervisor.spool.records import JsonObject

if TYPE_CHECKING:
    from levity.tls import SSLContext, SSLSocket

__all__ = ["Secure"]

_ENGINE_S = 10.0


class Secure:
    """Speaks TLS as the server. `binding` is what proofs over a token are bound to: our certificate.

    Only the engine can read the list of revoked certificates, and sees when there is another one.
    """

    def __init__(self, settings: Tls, link: EngineLink, *, has_crl: bool) -> None:
        from levity import tls

        self._tls = tls
        self.binding = tls.own_binding(settings.certificate)
        # What a call on a connection that does not wait raises.
        self.not_now: tuple[type[OSError], ...] = tls.WANTS
        self._settings = settings
        self._link = link
        self._has_crl = has_crl
        self._lock = threading.Lock()
        self._crl_version = ""  # guarded by self._lock
        self._is_broken = False  # guarded by self._lock
        self._context: SSLContext | None = None if has_crl else self._make_context(None)  # guarded by self._lock

    def _make_context(self, crl: bytes | None) -> "SSLContext":
        its = self._settings
        return self._tls.server_context(its.certificate, its.key, its.client_ca, crl)

    def wrap(self, connection: socket.socket) -> "SSLSocket":
        """Return the connection as one that speaks TLS; `connection` is used up."""
        with self._lock:
            context = self._context or self._make_context(None)
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def has_left(self, error: OSError) -> bool:
        """Whether that is what a client leaves behind that closes its connection in the middle of TLS."""
        return isinstance(error, self._tls.SSLEOFError)

    def client_facts(self, connection: "SSLSocket", crl_version: str) -> JsonObject:
        """Return what the engine wants to know of a client's certificate, which was verified."""
        names, not_after = self._tls.certificate_facts(connection)
        return {"names": names, "not_after": not_after, "crl": crl_version}

    def refresh(self) -> str:
        """Look for another list of revoked certificates; return by which list clients are judged from now on.

        Raises what the engine refuses, and AuthenticationError if the list is no good: call it before `wrap`, and let
        nobody in then.
        """
        if not self._has_crl:
            return ""
        with self._lock:
            found, fd = self._link.fetch("tls.crl", {"known": self._crl_version}, _ENGINE_S)
            if fd >= 0:
                self._take_list(found["version"], fd)
            return self._crl_version

    def _take_list(self, version: str, fd: int) -> None:
        try:
            self._context = self._make_context(_read_whole(fd))
        except (self._tls.SSLError, ValueError) as error:
            # Nobody is let in by a certificate that may be revoked.
            if not self._is_broken:
                say(f"levityd: the list of revoked certificates is no good ({error}): nobody can connect until it is")
            self._is_broken = True
            raise AuthenticationError("levityd cannot read its list of revoked certificates") from None
        self._crl_version, self._is_broken = version, False


def _read_whole(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()
