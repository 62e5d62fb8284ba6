"""The client: asks one levityd, and asks again where the connection breaks. Runs in: client. Owns: one connection."""

import os

from levity.addresses import Address, default_address, parse_address
from levity.connection import Connection, connect
from levity.errors import InvalidRequest, NotExecutable, ProtocolError, ServerUnreachable, Unavailable
from levity.patience import Patience, check_timeout
from levity.protocol.frames import FRAME_LIMIT
from levity.protocol.messages import request_frame
from levity.task import TaskRecord

__all__ = ["Client"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Self

    from levity.spec import Text

    JsonObject = dict[str, Any]

# How many records `list` asks for at a time.
PAGE = 256


class Client:
    """Asks a levityd to run commands, and what became of them.

    `address` is `HOST:PORT`, `[IPV6]:PORT` or `unix:/path`; None means `$LEVITY_ADDR`, else the default unix socket.
    `timeout` is how many seconds a request may take, all its tries together; for `logs`, how long nothing may come.

    It connects on the first request and keeps the connection. Where that breaks it connects anew and sends the request
    again until the time is over: safe, because the id of a task is made here, so a start sent twice runs once. Only
    where no levityd was ever met does a refused connection fail at once.

    Everything raised derives from LevityError; besides what each method names that is ServerUnreachable, ServerTimeout,
    ProtocolError and Unavailable. Not for several threads: give each its own Client.
    """

    def __init__(self, address: "str | Address | None" = None, timeout: float = 30.0) -> None:
        if isinstance(address, str):
            address = parse_address(address)
        self.address = default_address(os.environ) if address is None else address
        self.timeout_s = check_timeout(timeout)
        self._connection: Connection | None = None
        self._last_request = 0

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.address} {'connected' if self._connection else 'not connected'}>"

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def start(
        self,
        argv: "Sequence[Text]",
        cwd: "Text | None" = None,
        env: "Mapping[str, Text] | Mapping[bytes, Text] | None" = None,
        grace_s: float | None = None,
        task_id: str | None = None,
    ) -> str:
        """Start a command on the host and return the id of its task.

        `argv`, `cwd` and `env` reach it byte for byte (str by `os.fsencode`). `env` adds to levityd's environment.
        `grace_s` is the task's time between SIGTERM and SIGKILL. `task_id` is a UUID of your own making, for a program
        that must be able to ask again after its own crash; None makes one.

        Raises CommandNotFound, NotExecutable or BadDirectory when nothing ran, InvalidRequest, Conflict, NoSpace.
        """
        return self.submit(argv, cwd, env, grace_s, task_id).id

    def submit(
        self,
        argv: "Sequence[Text]",
        cwd: "Text | None" = None,
        env: "Mapping[str, Text] | Mapping[bytes, Text] | None" = None,
        grace_s: float | None = None,
        task_id: str | None = None,
    ) -> TaskRecord:
        """Do as `start` does, and return the task's whole record."""
        from levity.spec import new_task_id, start_params  # only a start needs it

        return TaskRecord(self._call("task.start", start_params(argv, cwd, env, grace_s, task_id or new_task_id())))

    def query(self, task_id: str) -> TaskRecord:
        """Return the record of a task (`task_id`: its id or the beginning of it). Raises UnknownTask, AmbiguousTask."""
        return TaskRecord(self._call("task.query", _named(task_id)))

    def signal(self, task_id: str, grace_s: float | None = None) -> TaskRecord:
        """Ask a task to end: SIGTERM, `grace_s` seconds (None: the task's own), SIGKILL. Returns at once.

        For a task that is over it changes nothing. Raises UnknownTask, AmbiguousTask.
        """
        params = _named(task_id)
        if grace_s is not None:
            from levity.spec import check_grace

            params["grace_s"] = check_grace(grace_s)
        return TaskRecord(self._call("task.signal", params))

    def logs(self, task_id: str) -> "Iterator[tuple[str, bytes]]":
        """Yield what a task has written so far: ("stdout" or "stderr", bytes), each stream in order, all of it once.

        It has a connection of its own, so other requests may be made meanwhile. Where that breaks it goes on at the
        same byte. Raises UnknownTask, AmbiguousTask, and ProtocolError if anything is missing at the end.
        """
        from levity.logs import LogReader

        return LogReader(self.address, self.timeout_s, _named(task_id)).chunks()

    def list(self, all: bool = False) -> "Iterator[TaskRecord]":
        """Yield the records of the live tasks, with `all` those that are over too."""
        cursor = None
        while True:
            page = self._call("task.list", {"all": all, "after": cursor, "limit": PAGE})
            yield from map(TaskRecord, _records(page))
            cursor = page.get("next")
            if cursor is None:
                return

    def info(self) -> "JsonObject":
        """Return what levityd says about itself: version, protocol, pid, state_dir, live (how many tasks)."""
        return self._call("server.info", {})

    def _call(self, method: str, params: "JsonObject") -> "JsonObject":
        """Send a request, again where the connection breaks, and return its result or raise its error."""
        self._last_request += 1
        frame = request_frame(self._last_request, method, params)
        if len(frame) > FRAME_LIMIT:
            # The server would hang up on it, and be asked again.
            raise NotExecutable(
                f"the command is too long: {len(frame)} bytes with its environment; hosts take about 2 MiB"
            )
        patience = Patience(self.timeout_s, connected=self._connection is not None)
        while True:
            try:
                return self._exchange(frame, patience)
            except (ServerUnreachable, Unavailable) as error:
                patience.wait(error)

    def _exchange(self, frame: bytes, patience: Patience) -> "JsonObject":
        if self._connection is None:
            self._connection = connect(self.address, patience.deadline)
        patience.connected = True
        try:
            self._connection.send(frame, patience.deadline)
            reply = self._connection.receive_reply(self._last_request, patience.deadline)
        except BaseException:
            # Whatever it was (a timeout, Ctrl-C), an answer may still be under way: not to be taken for the next one's.
            self.close()
            raise
        if reply.error:
            raise reply.error
        return reply.result


def _named(task_id: str) -> "JsonObject":
    if not isinstance(task_id, str) or not task_id:
        raise InvalidRequest(f"{task_id!r} is no task id: it is what `start` returned, or the beginning of that")
    return {"id": task_id}


def _records(page: "JsonObject") -> "list[JsonObject]":
    records = page.get("tasks")
    if isinstance(records, list) and all(isinstance(record, dict) for record in records):
        return records
    raise ProtocolError("levityd sent a list of tasks that is none")
