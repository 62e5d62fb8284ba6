"""The client of one levityd. Runs in: client. Owns: one connection."""

import os

from levity.addresses import Address, default_address, parse_address
from levity.errors import InvalidRequest, ProtocolError
from levity.task import TaskRecord
from levity.transport.rpc import RpcClient

__all__ = ["Client"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import Any, Unpack

    from levity.operations.log_params import Moment, When
    from levity.operations.logs import LogChunk, LogReader
    from levity.operations.run import Completed
    from levity.operations.stdin import Source
    from levity.start_options import Environment, Options, RunOptions, Text
    from levity.transport.credentials import Credentials, FilePath

    JsonObject = dict[str, Any]

# How many records `list` asks for at a time: at most PAGE_LIMIT.
PAGE = 256


class Client(RpcClient):
    """Has a levityd run commands, and tells what became of them.

    `address` is `HOST:PORT`, `[IPV6]:PORT` or `unix:/path`; None means `$LEVITY_ADDR`, else the default unix socket.
    `timeout` is how many seconds a request may take, all its tries together; for `logs`, `wait`, `run` and
    `write_stdin`, which may last, how long levityd may give no sign of life.

    The first request connects, and the next ones use the same connection. If it breaks, the client connects anew and
    sends the request again until the time is over. That is safe: the client makes the id of a task, so a start that is
    sent twice runs once. A refused connection fails at once if no levityd ever answered this client.

    Over TCP both sides prove who they are before the first request. The token for that is the one that `levity login`
    stored, on loopback also the one of the user's own levityd; `token_file` (or `$LEVITY_TOKEN_FILE`) names another.
    Off loopback, or with `tls`, both speak TLS. `ca`, `cert` and `key` are files of PEM: `ca` must have signed the
    server's certificate; `cert` and `key` take the place of a token.

    Every error derives from LevityError: those that a method names, and ServerUnreachable, ServerTimeout,
    AuthenticationError, ProtocolError, Forbidden and Unavailable. A Client is for one thread; only `abort` is for
    others.
    """

    def __init__(
        self,
        address: "str | Address | None" = None,
        timeout: float = 30.0,
        *,
        ca: "FilePath | None" = None,
        cert: "FilePath | None" = None,
        key: "FilePath | None" = None,
        tls: bool = False,
        token_file: "FilePath | None" = None,
    ) -> None:
        if isinstance(address, str):
            address = parse_address(address)
        chosen = default_address(os.environ) if address is None else address
        self._given = (ca, cert, key, tls, token_file)
        super().__init__(chosen, timeout, _credentials(chosen, *self._given))

    def another(self) -> "Client":
        """Return a second client of the same levityd, with its own connection."""
        ca, cert, key, tls, token_file = self._given
        client = Client(self.address, self.timeout_s, ca=ca, cert=cert, key=key, tls=tls, token_file=token_file)
        client.ever_connected = self.ever_connected
        client.clock = self.clock
        return client

    def start(
        self,
        argv: "Sequence[Text]",
        cwd: "Text | None" = None,
        env: "Environment | None" = None,
        grace_s: float | None = None,
        task_id: str | None = None,
        **options: "Unpack[Options]",
    ) -> str:
        """Start a command on the host and return the id of its task.

        `argv`, `cwd` and `env` reach it byte for byte (str by `os.fsencode`). `env` adds to levityd's environment.
        `grace_s` is the task's time between SIGTERM and SIGKILL. `task_id` is a UUID of your own making, for a program
        that must be able to ask again after its own crash; None makes one.

        The other options are `stdin`, `merged`, `log_cap` and `user`; `levity.start_options.StartOptions` explains all.

        Raises CommandNotFound, NotExecutable or BadDirectory when nothing ran, InvalidRequest, Conflict, NoSpace,
        Forbidden.
        """
        return self.submit(argv, cwd, env, grace_s, task_id, **options).id

    def submit(
        self,
        argv: "Sequence[Text]",
        cwd: "Text | None" = None,
        env: "Environment | None" = None,
        grace_s: float | None = None,
        task_id: str | None = None,
        **options: "Unpack[Options]",
    ) -> TaskRecord:
        """Do as `start` does, and return the task's whole record."""
        from levity.operations.start_params import new_task_id, start_params  # only a start needs it

        given = {"argv": argv, "cwd": cwd, "env": env, "grace_s": grace_s, **options}
        return TaskRecord(self.call("task.start", start_params(task_id or new_task_id(), given)))

    def query(self, task_id: str) -> TaskRecord:
        """Return the record of a task, named by its id or the beginning of it. Raises UnknownTask, AmbiguousTask."""
        return TaskRecord(self.call("task.query", _named(task_id)))

    def signal(self, task_id: str, grace_s: float | None = None) -> TaskRecord:
        """Ask a task to end: SIGTERM, `grace_s` seconds (None: the task's own), SIGKILL. Returns at once.

        A task that is over stays as it is. Raises UnknownTask, AmbiguousTask.
        """
        params = _named(task_id)
        if grace_s is not None:
            from levity.start_options import check_grace

            params["grace_s"] = check_grace(grace_s)
        return TaskRecord(self.call("task.signal", params))

    def logs(
        self,
        task_id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: "When | Moment | None" = None,
        until: "When | Moment | None" = None,
        streams: "Collection[str] | None" = None,
        exact_times: bool = False,
        cursor: str | None = None,
    ) -> "Iterator[LogChunk]":
        """Yield what a task has written so far, as chunks. A chunk unpacks into `stream, time_ns, data`.

        * `follow`: go on until the task is over and all its output has come
        * `tail`: only the last so many lines
        * `since`, `until`: only what came then or later, then or before: seconds since the epoch, a datetime, or a
          timedelta (so long before levityd's present time)
        * `streams`: ["stdout"] or ["stderr"] for one of them
        * `exact_times`: all bytes of a chunk came at the same time
        * `cursor`: the `cursor` of a chunk: go on behind that one, in place of `tail` and `since`

        Each stream comes in order, every byte once. Bytes that are missing (removed to keep within limits, or lost)
        are a chunk without data, with their number as `dropped`.

        A log has its own connection, so other requests may be made meanwhile. If it breaks, the log goes on at the same
        byte. Raises UnknownTask, AmbiguousTask, and IncompleteLog if bytes are missing at the end.
        """
        return self.open_log(
            task_id,
            follow=follow,
            tail=tail,
            since=since,
            until=until,
            streams=streams,
            exact_times=exact_times,
            cursor=cursor,
        ).chunks()

    def wait(
        self,
        ids: "str | Sequence[str]",
        timeout: float | None = None,
        any: bool = False,  # noqa: A002 - its name in the protocol
    ) -> "builtins.list[TaskRecord]":
        """Wait until all of these tasks are over, with `any` until one is, and return their records in that order.

        levityd answers at that moment; nothing is polled. `timeout` is in seconds, None for ever. Raises WaitTimeout,
        which has the records, too; UnknownTask, AmbiguousTask.
        """
        from levity.operations.wait import wait  # only a wait needs it

        return wait(self, ids, timeout, any)

    def write_stdin(self, task_id: str, source: "Source", *, limit_bytes: int | None = None) -> int:
        """Send a task its standard input, bytes or a binary file object to its end; return how many bytes were taken.

        The task must have been started with `stdin`. levityd stores what the task has not read yet. At `limit_bytes` of
        it this waits; None stores any number. If the task reads no more or is over, this returns early, without an
        error. Raises UnknownTask, AmbiguousTask, InvalidRequest.
        """
        from levity.operations.stdin import write_stdin

        return write_stdin(self, task_id, source, limit_bytes)

    def run(
        self,
        argv: "Sequence[Text]",
        cwd: "Text | None" = None,
        env: "Environment | None" = None,
        grace_s: float | None = None,
        task_id: str | None = None,
        *,
        stdin: "Source | None" = None,
        output: "Callable[[LogChunk], object] | None" = None,
        **options: "Unpack[RunOptions]",
    ) -> "Completed":
        """Run a command to its end and return its record and output.

        As `start`, `logs` and `wait` in one. `stdin` is bytes, or a binary file object that a thread reads meanwhile.
        `output` is called with each chunk as it comes; the result then has no output.

        The task goes on if this raises or is interrupted: give a `task_id` to find it again.
        """
        from levity.operations.run import run

        record = self.submit(argv, cwd, env, grace_s, task_id, stdin=stdin is not None, **options)
        return run(self, record.id, stdin, output)

    def list(self, all: bool = False) -> "Iterator[TaskRecord]":
        """Yield the records of the live tasks, with `all` also of those that are over."""
        cursor = None
        while True:
            page = self.call("task.list", {"all": all, "after": cursor, "limit": PAGE})
            yield from map(TaskRecord, _records(page))
            cursor = page.get("next")
            if cursor is None:
                return

    def info(self) -> "JsonObject":
        """Return what levityd tells of itself: version, protocol, pid, state_dir, live (how many tasks), limits.

        And who this client is to it: user and role.
        """
        return self.call("server.info", {})

    def open_log(self, task_id: str, **wanted: "Any") -> "LogReader":
        """Return a reader of a task's log; `wanted` are the options of `logs`."""
        from levity.operations.logs import open_log

        return open_log(self, task_id, **wanted)


def _credentials(
    address: Address,
    ca: "FilePath | None",
    cert: "FilePath | None",
    key: "FilePath | None",
    tls: bool,
    token_file: "FilePath | None",
) -> "Credentials | None":
    """Return the credentials for a levityd over TCP; None for a unix socket, where the kernel tells who asks."""
    if not address.is_unix:
        from levity.transport.credentials import Credentials

        return Credentials(ca, cert, key, tls, token_file)
    if tls or any(given is not None for given in (ca, cert, key, token_file)):
        raise InvalidRequest(
            f"certificates, TLS and tokens are for HOST:PORT; at {address} the kernel says who is there"
        )
    return None


def _named(task_id: str) -> "JsonObject":
    if not isinstance(task_id, str) or not task_id:
        raise InvalidRequest(f"{task_id!r} is no task id: it is what `start` returned, or the beginning of that")
    return {"id": task_id}


def _records(page: "JsonObject") -> "list[JsonObject]":
    records = page.get("tasks")
    if isinstance(records, list) and all(isinstance(record, dict) for record in records):
        return records
    raise ProtocolError("levityd sent a list of tasks that is none")
