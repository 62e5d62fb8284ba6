"""All errors of levity, a class per fault, each with its wire code. Runs in: every process. Owns: nothing.

The tree follows the fault: the request's, the peer's, the host's, or levity's own. The server sends `code` and
`message` (a JSON-RPC 2.0 error); `from_wire` makes the same class of them at the client.
"""

__all__ = [
    "AmbiguousTask",
    "AuthenticationError",
    "BadAddress",
    "BadDirectory",
    "CommandNotFound",
    "Conflict",
    "ConnectionLost",
    "Forbidden",
    "HostError",
    "IncompleteLog",
    "InternalError",
    "InvalidRequest",
    "LevityError",
    "NoSpace",
    "NotExecutable",
    "PeerError",
    "ProtocolError",
    "RequestError",
    "ServerTimeout",
    "ServerUnreachable",
    "StartError",
    "Unavailable",
    "UnknownMethod",
    "UnknownTask",
    "from_wire",
]


# What `levity` exits with after a KeyboardInterrupt, Python's own error: a shell's code for what SIGINT ended.
INTERRUPTED = 130


class LevityError(Exception):
    """Base of all errors of levity.

    `code` is the stable number on the wire, `exit_status` the exit code of the `levity` command,
    `message` one line: what happened and what to do.
    """

    code = -32000
    exit_status = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(LevityError):
    """The request cannot be carried out as it was made."""


class InvalidRequest(RequestError):
    """A parameter is missing, of the wrong type or of an impossible value."""

    code = -32602
    exit_status = 2


class UnknownMethod(RequestError):
    """The server does not know this operation: it is an older levityd, or none."""

    code = -32601


class BadAddress(RequestError):
    """A text is no address in any of the known forms."""

    exit_status = 2


class UnknownTask(RequestError):
    """No task has this id."""

    code = 1


class AmbiguousTask(RequestError):
    """More than one id begins with the given text."""

    code = 2


class Conflict(RequestError):
    """The id is already in use for another command."""

    code = 3


class Forbidden(RequestError):
    """The client's user may not do this."""

    code = 5


class StartError(RequestError):
    """The command could not be executed; nothing ran."""

    code = 10
    exit_status = 126


class CommandNotFound(StartError):
    """There is no such command on the host."""

    code = 11
    exit_status = 127


class NotExecutable(StartError):
    """The command exists, but the kernel would not execute it (permission, format, length of the arguments)."""

    code = 12


class BadDirectory(StartError):
    """The working directory is missing or cannot be entered."""

    code = 13
    exit_status = 1


class HostError(LevityError):
    """The host refused something that levityd needed."""

    code = 20


class NoSpace(HostError):
    """The file system of the state directory is full."""

    code = 21


class InternalError(LevityError):
    """A fault of levity itself."""

    code = -32603


class Unavailable(LevityError):
    """levityd's front-end is there, but its engine did not answer in time; ask again."""

    code = 30


class IncompleteLog(LevityError):
    """A log did not arrive whole. The client makes this error; it is never sent."""


class PeerError(LevityError):
    """Something is wrong between this client and the server."""

    exit_status = 255


class ServerUnreachable(PeerError):
    """No connection to levityd could be made, or the connection was lost for good."""


class ConnectionLost(ServerUnreachable):
    """The connection to a levityd that is or was there broke: the one failure worth another try."""


class ServerTimeout(PeerError):
    """levityd did not answer within the client's timeout."""


class ProtocolError(PeerError):
    """The bytes received are not levity's protocol."""

    code = -32700


class AuthenticationError(PeerError):
    """One side did not prove who it is, or may not connect."""

    code = 40


def _by_code() -> dict[int, type[LevityError]]:
    """Map each wire code to the topmost class that has it."""
    table: dict[int, type[LevityError]] = {}
    pending: list[type[LevityError]] = [LevityError]
    while pending:
        cls = pending.pop(0)
        table.setdefault(cls.code, cls)
        pending.extend(cls.__subclasses__())
    return table


_BY_CODE = _by_code()


def from_wire(code: int, message: str) -> LevityError:
    """Make the error of this `code`; an unknown code becomes a plain LevityError."""
    return _BY_CODE.get(code, LevityError)(message)
