"""What clients can ask of the engine: one literal table of names. Runs in: engine. Owns: the waits.

Who asks, and whether that user may, is looked at first, in one place. What is refused, and what changes anything or
reads output, is in the audit before it happens.
"""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from levity.errors import (
    AuthenticationError,
    Conflict,
    Forbidden,
    InternalError,
    InvalidRequest,
    LevityError,
    Unavailable,
    UnknownMethod,
    UnknownTask,
)
from levity.protocol.messages import PROTOCOL_VERSION, Request
from levity.version import __version__
from supervisor.engine.audit import Audit
from supervisor.engine.authority import Authority, Client, note
from supervisor.engine.catalogue import Catalogue, record_of
from supervisor.engine.control import send_command
from supervisor.engine.identity import run_as
from supervisor.engine.inputs import parse_input, store_input
from supervisor.engine.janitor import Limits
from supervisor.engine.loop import Loop
from supervisor.engine.registry import Registry, RegistryCorruptError, RegistryUnusableError
from supervisor.engine.request import check_start, grace_of, page_of, prefix_of, user_of, wait_of
from supervisor.engine.start_errors import host_error
from supervisor.engine.task import Answer
from supervisor.engine.tasks import Tasks
from supervisor.engine.waiting import Wait
from supervisor.principal import Principal, Right, Role
from supervisor.say import say
from supervisor.spool.commands import STDIN
from supervisor.spool.records import JsonObject

__all__ = ["Operations"]

_FEEDERS_LIMIT = 1024

# An operation is called with who asks, its parameters, and what to call with its result.
Call = Callable[[Client, JsonObject, Answer], None]


class Operation(NamedTuple):
    """`right` is what the user must have, to any task at all; with whose task is looked at when it is found."""

    right: Right
    call: Call


class Operations:
    """Carries out requests: `handle(request, answer)` calls `answer` once, now or later, with a result or an error."""

    def __init__(
        self,
        loop: Loop,
        tasks: Tasks,
        registry: Registry,
        authority: Authority,
        audit: Audit,
        state_dir: str,
        log_cap: int,
        limits: Limits,
    ) -> None:
        self._loop = loop
        self._tasks = tasks
        self._registry = registry
        self._authority = authority
        self._audit = audit
        self._state_dir = state_dir
        self._log_cap = log_cap
        self._limits = limits
        self._catalogue = Catalogue(registry, tasks.live, authority.own_user, authority.key)
        self._waits: dict[str, Wait] = {}
        self._feeders: dict[tuple[str, str], None] = {}  # A set that keeps its order.
        self._table = {
            "task.start": Operation(Right.START, self._start),
            "task.query": Operation(Right.SEE, self._query),
            "task.signal": Operation(Right.ACT, self._signal),
            "task.list": Operation(Right.SEE, self._list),
            "task.wait": Operation(Right.SEE, self._wait),
            "task.stdin": Operation(Right.ACT, self._stdin),
            "server.info": Operation(Right.SEE, self._info),
        }

    def handle(self, request: Request, answer: Answer) -> None:
        """Carry out one request."""
        try:
            client = self._authority.recognise(request.auth)
        except AuthenticationError as error:
            peer, user = self._authority.once_known(request.auth)
            self._audit.write_refused(peer=peer, user=user, reason=error.message)
            answer(error)
            return
        operation = self._table.get(request.method)
        if operation is None:
            answer(UnknownMethod(f"unknown operation {request.method[:64]!r}; this is levityd {__version__}"))
            return
        try:
            _check_right(client.principal, operation.right)
            operation.call(client, request.params, answer)
        except (Forbidden, UnknownTask) as error:
            # Whether there is such a task, and of another user, is not told here either.
            params = request.params
            note(self._audit, client, request.method, params.get("id"), params.get("argv"), refused=error.message)
            answer(error)
        except LevityError as error:
            answer(error)
        except RegistryCorruptError:
            raise
        except RegistryUnusableError as error:
            answer(Unavailable(f"levityd's registry cannot be read now ({error}); ask again"))
        except Exception as error:  # noqa: BLE001 The outermost boundary of a request: it must not end the engine.
            say(f"levityd: engine: {request.method}: {type(error).__name__}: {error}")
            answer(InternalError("levityd failed over this request; its log says more"))

    def find(self, client: Client, right: Right, params: JsonObject) -> str:
        """Return the task that a client names and has that right to."""
        return self._catalogue.find(client.principal, right, prefix_of(params))

    def unwait(self, token: str) -> None:
        """Whoever waited with this token has left."""
        if wait := self._waits.pop(token, None):
            wait.give_up()

    def forget_waits(self) -> None:
        """The front-end is gone, and with it all who waited."""
        while self._waits:
            self._waits.popitem()[1].give_up()

    def _start(self, client: Client, params: JsonObject, answer: Answer) -> None:
        spec = check_start(params, time.time_ns(), self._log_cap)
        who = client.principal
        spec["owner"] = who.user
        spec["run_as"] = run_as(who, user_of(params), self._authority.own_user, self._authority.frontend_uid)
        row = self._registry.get(spec["id"])
        if row is None:
            note(self._audit, client, "task.start", spec["id"], spec["argv"])
            self._tasks.start(spec, answer)
            return
        if _differs(row.spec, spec, self._catalogue.owner_of(row.spec)):
            error = Conflict(f"the id {spec['id']} is in use for another command")
            note(self._audit, client, "task.start", spec["id"], spec["argv"], refused=error.message)
            raise error
        task = self._tasks.live.get(row.id)
        if task is None:
            answer(record_of(row))
        else:
            self._tasks.start_again(task, answer)

    def _query(self, client: Client, params: JsonObject, answer: Answer) -> None:
        answer(self._catalogue.record(self.find(client, Right.SEE, params)))

    def _signal(self, client: Client, params: JsonObject, answer: Answer) -> None:
        grace_s = grace_of(params)
        task_id = self.find(client, Right.ACT, params)
        note(self._audit, client, "task.signal", task_id)
        task = self._tasks.live.get(task_id)
        if task is None:
            answer(self._catalogue.record(task_id))  # It is over: that is what was wanted.
        else:
            self._tasks.signal(task, grace_s, answer)

    def _list(self, client: Client, params: JsonObject, answer: Answer) -> None:
        live_only, after, limit = page_of(params)
        answer(self._catalogue.page(client.principal, after, limit, live_only=live_only))

    def _wait(self, client: Client, params: JsonObject, answer: Answer) -> None:
        prefixes, one_is_enough, within_s = wait_of(params)
        ids = [self._catalogue.find(client.principal, Right.SEE, prefix) for prefix in prefixes]
        live = {task_id: self._tasks.live[task_id] for task_id in ids if task_id in self._tasks.live}
        over = {task_id: self._catalogue.brief(task_id) for task_id in ids if task_id not in live}
        token = str(params.get("token", ""))

        def answer_once(result: JsonObject | LevityError) -> None:
            self._waits.pop(token, None)
            answer(result)

        wait = self._waits[token] = Wait(ids, over, live, one_is_enough=one_is_enough, answer=answer_once)
        wait.begin(self._loop, within_s)

    def _stdin(self, client: Client, params: JsonObject, answer: Answer) -> None:
        """Store input and tell the task's shim. One that is over reads no more, and that is no error."""
        piece = parse_input(params)
        task_id = self.find(client, Right.ACT, params)
        if not self._catalogue.record(task_id)["stdin"]:
            raise InvalidRequest(f"task {task_id} was started without an input to send to")
        if (feeder := (client.ticket, task_id)) not in self._feeders:
            # Once for each connection and task, not for each piece.
            note(self._audit, client, "task.stdin", task_id)
            self._feeders[feeder] = None
            while len(self._feeders) > _FEEDERS_LIMIT:
                del self._feeders[next(iter(self._feeders))]
        try:
            reply = store_input(task_id, piece)
        except OSError as error:
            raise host_error(error.errno or 0, "the input cannot be stored") from error
        task = self._tasks.live.get(task_id)
        if task is not None and "full" not in reply:
            send_command(task_id, task.commands, STDIN)
        answer(reply)

    def _info(self, client: Client, _params: JsonObject, answer: Answer) -> None:
        who = client.principal
        facts: JsonObject = {
            "version": __version__,
            "protocol": PROTOCOL_VERSION,
            "user": who.user,
            "role": who.role,
            "live": self._catalogue.count_live(who),
            "log_cap": self._log_cap,
            "log_quota": self._limits.quota,
            "min_free": self._limits.min_free,
        }
        if who.role is Role.ADMIN:
            facts |= {"pid": os.getppid(), "state_dir": self._state_dir}
        answer(facts)


def _check_right(who: Principal, right: Right) -> None:
    if not who.may(right):
        raise Forbidden(
            f"{who.user} has the role {who.role}, which may only look at tasks; an administrator can change that"
        )


def _differs(known: JsonObject, asked: JsonObject, owner: str) -> bool:
    """Whether a start with an id that is in use asks for something else."""
    if owner != asked["owner"] or any(known[key] != asked[key] for key in ("argv", "cwd", "env")):
        return True
    if any(known.get(key, False) != asked[key] for key in ("stdin", "merged")):
        return True
    return _uid_of(known) != _uid_of(asked)


def _uid_of(spec: JsonObject) -> int | None:
    identity = spec.get("run_as")
    return None if identity is None else identity["uid"]
