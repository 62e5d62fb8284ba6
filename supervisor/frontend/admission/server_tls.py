"""TLS on the way in. Runs in: front-end, all threads. Owns: the context, and in it the server's key.

The TLS library is loaded only where TLS is spoken, and before the front-end gives up its privileges.
"""

import os
import threading
from typing import TYPE_CHECKING

from levity.errors import HostError, ProtocolError
from supervisor.frontend.engine_client import EngineClient
from supervisor.log import log
from supervisor.settings import Tls
from supervisor.spool.records import JsonObject

if TYPE_CHECKING:
    from levity.tls import SSLContext, SSLSocket

__all__ = ["ServerTls"]


class ServerTls:
    """Speaks TLS as the server. Proofs over a token are bound to `binding`: levityd's certificate.

    Only the engine can read the list of revoked certificates, and it notices when the list changes.
    """

    def __init__(self, settings: Tls, engine: EngineClient, *, has_crl: bool) -> None:
        from levity import tls

        self._tls = tls
        self.binding = tls.own_binding(settings.certificate)
        # Raised by calls on a connection that does not wait.
        self.not_now: tuple[type[OSError], ...] = tls.WANTS
        self._settings = settings
        self._engine = engine
        self._has_crl = has_crl
        self._lock = threading.Lock()
        self._crl_version = ""  # guarded by self._lock
        self._is_broken = False  # guarded by self._lock
        # Where there is a list, this context lets no client in: the engine refuses its version, "".
        self._context = self._make_context(None)  # guarded by self._lock

    def _make_context(self, crl: bytes | None) -> "SSLContext":
        its = self._settings
        return self._tls.server_context(its.certificate, its.key, its.client_ca, crl)

    def has_left(self, error: OSError) -> bool:
        """Whether the client has closed its connection in the middle of TLS."""
        return isinstance(error, self._tls.SSLEOFError)

    def client_facts(self, connection: "SSLSocket", crl_version: str) -> JsonObject:
        """Return the facts about a client's verified certificate by which the engine decides; ProtocolError."""
        try:
            names, not_after, is_clients = self._tls.certificate_facts(connection)
        except ValueError:
            raise ProtocolError("the certificate cannot be read") from None
        return {"names": names, "not_after": not_after, "is_clients": is_clients, "crl": crl_version}

    def judge(self, timeout_s: float) -> "tuple[SSLContext, str]":
        """Return the context by which clients are judged now, and the version of the list of revocations in it.

        The engine's refusal is raised, and HostError if the list is no good: then no client is let in. No thread waits
        for another: each asks for itself.
        """
        with self._lock:
            context, version = self._context, self._crl_version
        if not self._has_crl:
            return context, version
        found, fd = self._engine.fetch("tls.crl", {"known": version}, timeout_s)
        if fd >= 0:
            try:
                context = self._make_context(_read_whole(fd))
            except (self._tls.SSLError, ValueError) as error:
                self._warn(error)
                raise HostError("levityd cannot use its list of revoked certificates; its log says more") from None
            version = str(found["version"])
            with self._lock:
                self._context, self._crl_version, self._is_broken = context, version, False
        return context, version

    def refusing(self) -> "SSLContext":
        """Return a context that is good enough to refuse a client in TLS."""
        with self._lock:
            return self._context

    def _warn(self, error: Exception) -> None:
        with self._lock:
            was_broken, self._is_broken = self._is_broken, True
        if not was_broken:
            log(f"levityd: the list of revoked certificates is no good ({error}): nobody can connect until it is")


def _read_whole(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()
