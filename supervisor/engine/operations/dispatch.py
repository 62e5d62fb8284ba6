"""The operations that clients can ask for: one literal table of names. Runs in: engine. Owns: the waits.

The client's ticket and its rights are checked first, in one place. Refusals, changes and reads of output are audited
before they take effect.

To add an operation, touch: COMMANDS in levity/cli/main.py, and a module in levity/cli; a method of levity/client.py
(with a module in levity/operations if it takes more than one request); a row in supervisor/frontend/session.py (with a
module in supervisor/frontend/operations if the front-end sends output or waits); a row and a module here. All have its
name (docs/architecture.md, "Adding an operation").
"""

from collections.abc import Callable
from typing import NamedTuple

from levity.errors import (
    AuthenticationError,
    Forbidden,
    InternalError,
    InvalidRequest,
    LevityError,
    Unavailable,
    UnknownMethod,
    UnknownTask,
)
from levity.protocol.frames import FRAME_LIMIT
from levity.protocol.messages import dump_object
from levity.version import __version__
from supervisor.engine.access.audit_log import note
from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.context import Context
from supervisor.engine.operations.info import info
from supervisor.engine.operations.list import list_tasks
from supervisor.engine.operations.query import query
from supervisor.engine.operations.request import EngineRequest
from supervisor.engine.operations.signal import signal
from supervisor.engine.operations.start import start
from supervisor.engine.operations.stdin import stdin
from supervisor.engine.operations.wait import wait
from supervisor.engine.storage.registry import RegistryCorruptError, RegistryUnusableError
from supervisor.engine.tasks.live_task import Answer
from supervisor.log import log
from supervisor.security.principal import Principal
from supervisor.security.roles import Right
from supervisor.spool.records import JsonObject

__all__ = ["Operations"]

# An answer adds much less than this to what it repeats of the request.
_REPEATED_LIMIT = FRAME_LIMIT - 64 * 1024
# levityd writes JSON in ASCII: a character of two bytes or more in UTF-8 takes six or twelve then.
_GROWTH = 3

# An operation is called with the client, its parameters, and a function that takes the result.
Call = Callable[[Context, Client, JsonObject, Answer], None]


class Operation(NamedTuple):
    """`right` is checked twice: here, whether the user has it to any task; in `Context.find`, whether to this one.

    `is_repeated`: its answer, and that of each later query, repeats the request.
    """

    right: Right
    call: Call
    is_repeated: bool = False


_TABLE = {
    "task.start": Operation(Right.START, start, is_repeated=True),
    "task.query": Operation(Right.SEE, query),
    "task.signal": Operation(Right.ACT, signal),
    "task.list": Operation(Right.SEE, list_tasks),
    "task.wait": Operation(Right.SEE, wait),
    "task.stdin": Operation(Right.ACT, stdin),
    "server.info": Operation(Right.SEE, info),
}


class Operations:
    """Carries out requests: `handle(request, answer)` calls `answer` once, now or later, with a result or an error."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def handle(self, request: EngineRequest, answer: Answer) -> None:
        """Carry out one request."""
        try:
            client = self._context.authenticator.recognise(request.ticket)
        except AuthenticationError as error:
            peer, user = self._context.authenticator.once_known(request.ticket)
            self._context.audit.write_refused(peer=peer, user=user, reason=error.message)
            answer(error)
            return
        operation = _TABLE.get(request.method)
        if operation is None:
            answer(UnknownMethod(f"unknown operation {request.method[:64]!r}; this is levityd {__version__}"))
            return
        try:
            _check_right(client.principal, operation.right)
            if operation.is_repeated:
                _check_repeatable(request)
            operation.call(self._context, client, request.params, answer)
        except (Forbidden, UnknownTask) as error:
            # Neither the answer nor the audit says whether another user has a task of this id.
            params = request.params
            note(
                self._context.audit, client, request.method, params.get("id"), params.get("argv"), refused=error.message
            )
            answer(error)
        except LevityError as error:
            answer(error)
        except RegistryCorruptError:
            raise
        except RegistryUnusableError as error:
            answer(Unavailable(f"levityd's registry cannot be read now ({error}); ask again"))
        except Exception as error:  # noqa: BLE001 The outermost boundary of a request: it must not end the engine.
            log(f"levityd: engine: {request.method}: {type(error).__name__}: {error}")
            answer(InternalError("levityd failed over this request; its log says more"))

    def find(self, client: Client, right: Right, params: JsonObject) -> str:
        """Return the id of the task that the client names, if the client has that right to it."""
        return self._context.find(client, right, params)

    def unwait(self, token: str) -> None:
        """End the wait with this token: the client has left."""
        if one := self._context.waits.pop(token, None):
            one.give_up()

    def forget_waits(self) -> None:
        """End all waits: the front-end is gone, and with it the clients that waited."""
        while self._context.waits:
            self._context.waits.popitem()[1].give_up()


def _check_right(who: Principal, right: Right) -> None:
    if not who.may(right):
        raise Forbidden(
            f"{who.user} has the role {who.role}, which may only look at tasks; an administrator can change that"
        )


def _check_repeatable(request: EngineRequest) -> None:
    """InvalidRequest if an answer that repeats this request would be too long for a frame."""
    if request.size * _GROWTH <= _REPEATED_LIMIT:
        return
    if (length := len(dump_object(request.params))) > _REPEATED_LIMIT:
        raise InvalidRequest(f"a request of {length} bytes is too long; the limit is {_REPEATED_LIMIT}")
