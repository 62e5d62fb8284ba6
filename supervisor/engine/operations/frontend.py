"""The operations of the front-end itself: authenticate clients, lend directories. Runs in: engine. Owns: nothing.

One literal table of names, none of which a client can ask for. A refusal is one line, for the front-end and in the
audit; nothing else is done.
"""

import os
from collections.abc import Callable

from levity.errors import (
    AuthenticationError,
    Forbidden,
    HostError,
    InternalError,
    InvalidRequest,
    LevityError,
    UnknownTask,
)
from levity.version import __version__
from supervisor.engine.access.audit_log import Audit, note
from supervisor.engine.access.authenticator import Authenticator, WrongUserError, file_version
from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.request import EngineRequest
from supervisor.engine.storage.lending import lend
from supervisor.log import log
from supervisor.security.roles import Right
from supervisor.spool.records import JsonObject

__all__ = ["FrontendOperations", "Lookup"]

_TEXT_LIMIT = 256

# The operations for which a task's directory is lent, and the right to the task that each takes.
_BORROWERS = {"task.logs": Right.SEE, "task.stdin": Right.ACT}

# Returns the id of the one task that is named by these parameters and to which the client has that right.
Lookup = Callable[[Client, Right, JsonObject], str]
# A result, and the descriptor that goes with it; -1: none.
Answer = tuple[JsonObject, int]


class FrontendOperations:
    """Answers requests: `handle` returns a result and a descriptor (or -1), or raises LevityError."""

    def __init__(
        self,
        authenticator: Authenticator,
        audit: Audit,
        spool_gid: int | None,
        find: Lookup,
        unwait: Callable[[str], None],
    ) -> None:
        self._authenticator = authenticator
        self._audit = audit
        self._spool_gid = spool_gid
        self._find = find
        self._unwait = unwait
        self._table: dict[str, Callable[[EngineRequest, int], Answer]] = {
            "auth.peer": self._peer,
            "auth.nonce": self._make_nonce,
            "auth.begin": self._begin,
            "auth.finish": self._finish,
            "auth.certificate": self._certificate,
            "auth.rejected": self._rejected,
            "auth.check": self._check,
            "spool.open": self._open_spool,
            "task.unwait": self._end_wait,
            "tls.crl": self._crl,
        }

    def serves(self, method: str) -> bool:
        """Whether this is an operation of the front-end's own."""
        return method in self._table

    def handle(self, request: EngineRequest, fd: int) -> Answer:
        """Answer one request; `fd` came with it (-1: none) and is closed here."""
        try:
            return self._table[request.method](request, fd)
        except LevityError:
            raise
        except Exception as error:  # noqa: BLE001 The outermost boundary of a request: it must not end the engine.
            log(f"levityd: engine: {request.method}: {type(error).__name__}: {error}")
            raise InternalError("levityd failed over this request; its log says more") from None
        finally:
            if fd >= 0:
                os.close(fd)

    def _peer(self, request: EngineRequest, fd: int) -> Answer:
        if fd < 0:
            raise InvalidRequest("the client's socket is missing")
        return self._admit(request, lambda: self._authenticator.by_peer(fd))

    def _make_nonce(self, _request: EngineRequest, _fd: int) -> Answer:
        return {"nonce": self._authenticator.make_nonce().hex()}, -1

    def _begin(self, request: EngineRequest, _fd: int) -> Answer:
        try:
            return {"proof": self._authenticator.begin(request.params).hex()}, -1
        except (AuthenticationError, InvalidRequest) as error:
            self._refuse(_peer_of(request), error)
            raise

    def _finish(self, request: EngineRequest, _fd: int) -> Answer:
        return self._admit(request, lambda: self._authenticator.by_proof(request.params, _peer_of(request)))

    def _certificate(self, request: EngineRequest, _fd: int) -> Answer:
        return self._admit(request, lambda: self._authenticator.by_certificate(request.params, _peer_of(request)))

    def _admit(self, request: EngineRequest, decide: Callable[[], Client]) -> Answer:
        try:
            client = decide()
        except (AuthenticationError, InvalidRequest) as error:
            self._refuse(error.peer if isinstance(error, WrongUserError) else _peer_of(request), error)
            raise
        who = client.principal
        if request.method != "auth.peer":  # Processes of this host are too many; their requests are audited.
            note(self._audit, client, "connect")
        return {"ticket": client.ticket, "user": who.user, "role": who.role, "server": f"levityd/{__version__}"}, -1

    def _refuse(self, peer: str, error: LevityError, user: str | None = None) -> None:
        self._audit.write_refused(peer=peer, user=user, reason=error.message)

    def _recognise(self, request: EngineRequest) -> Client:
        try:
            return self._authenticator.recognise(request.ticket)
        except AuthenticationError as error:
            peer, user = self._authenticator.once_known(request.ticket)
            self._refuse(peer, error, user)
            raise

    def _rejected(self, request: EngineRequest, _fd: int) -> Answer:
        self._audit.write_refused(peer=_peer_of(request), reason=_text(request.params.get("reason")))
        return {}, -1

    def _check(self, request: EngineRequest, _fd: int) -> Answer:
        self._recognise(request)
        return {}, -1

    def _open_spool(self, request: EngineRequest, _fd: int) -> Answer:
        client = self._recognise(request)
        method = str(request.params.get("for"))
        if (right := _BORROWERS.get(method)) is None:
            raise InvalidRequest("a task's directory is not lent for that")
        try:
            task_id = self._find(client, right, request.params)
        except (Forbidden, UnknownTask) as error:
            note(self._audit, client, method, request.params.get("id"), refused=error.message)
            raise
        if method == "task.logs":
            note(self._audit, client, method, task_id)
        try:
            return {"id": task_id}, lend(task_id, self._spool_gid)
        except FileNotFoundError:
            raise HostError(f"the output of task {task_id} is not stored any more") from None

    def _end_wait(self, request: EngineRequest, _fd: int) -> Answer:
        self._unwait(str(request.params.get("token", "")))
        return {}, -1

    def _crl(self, request: EngineRequest, _fd: int) -> Answer:
        """Return the open file of revoked certificates, if it is another one than `known`."""
        path = self._authenticator.crl_path
        if path is None or (version := file_version(path)) == request.params.get("known"):
            return {}, -1
        try:
            return {"version": version}, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            # No client is let in by a certificate that may be revoked.
            log(f"levityd: {path} cannot be read ({error.strerror}); nobody can connect until it can")
            raise HostError("levityd cannot read its list of revoked certificates; its log says more") from None


def _peer_of(request: EngineRequest) -> str:
    return _text(request.params.get("peer"))


def _text(value: object) -> str:
    return value[:_TEXT_LIMIT] if isinstance(value, str) else "?"
