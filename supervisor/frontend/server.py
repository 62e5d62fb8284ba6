"""Accept connections, a thread each. Runs in: front-end. Owns: nothing: the listening socket is the arbiter's."""

import errno
import os
import resource
import socket
import socketserver
import sys
import time
from typing import Any

from supervisor.frontend.admission.limits import source_of
from supervisor.frontend.session import Session
from supervisor.frontend.shared import Shared
from supervisor.log import log

__all__ = ["Server"]

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S = 0.1
# Every request needs descriptors, too: so many are left for the connections that are in already.
_RESERVE = 256


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A server on a socket that is bound and listening already, TCP or unix.

    The base classes call a Session a request.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, shared: Shared) -> None:
        socketserver.BaseServer.__init__(self, listener.getsockname(), socketserver.BaseRequestHandler)
        # Another front-end may still hold the same socket for a moment and take the connection that woke this one.
        listener.setblocking(False)
        self.socket = listener
        self.shared = shared
        self.sessions: set[Session] = set()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._first_reserved = limit - min(_RESERVE, limit // 3)

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return any(session.is_answering for session in self.sessions.copy())

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection.

        Without descriptors, pause: the connection stays in the backlog and would wake this thread at once. OSError when
        there is no connection to serve.
        """
        try:
            connection, address = self.socket.accept()
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                time.sleep(_PAUSE_S)
            raise
        if connection.fileno() >= self._first_reserved:  # It has the lowest number that is free.
            connection.close()
            time.sleep(_PAUSE_S)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        connection.setblocking(True)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if connection.family == socket.AF_UNIX:
            return Session(connection, "unix", source_of(address), self.shared), address
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, port = address[:2]
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return Session(connection, peer, source_of(address), self.shared), address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the connection's thread, if there may be one more."""
        if not self.shared.limits.admit(request, request.source):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # No thread could be started.
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        self.sessions.add(request)
        try:
            request.run()
        except Exception:  # noqa: BLE001 The outermost boundary of a connection: the others go on.
            self.handle_error(request, client_address)
        finally:
            self.sessions.discard(request)
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; the base class calls it, too, where something goes wrong before it has a thread."""
        self.shared.limits.leave(request)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 The base class names them.
        """Log in one line what went wrong with one connection; the others go on."""
        error = sys.exc_info()[1]
        log(f"levityd: front-end: {type(error).__name__}: {error}")
