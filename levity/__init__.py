"""levity: run commands on a host for people who are somewhere else.

    import levity

    with levity.Client("127.0.0.1:4321", timeout=30.0) as client:
        id = client.start(["ls", "-l"])
        print(client.query(id).state)
        for stream, time_ns, data in client.logs(id, follow=True):
            ...

Every error derives from `levity.LevityError`. A name is imported at its first use, so `import levity` costs next to
nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from levity.client import Client
    from levity.errors import (
        AmbiguousTask,
        AuthenticationError,
        BadAddress,
        BadDirectory,
        CommandNotFound,
        Conflict,
        ConnectionLost,
        Forbidden,
        HostError,
        IncompleteLog,
        InternalError,
        InvalidRequest,
        LevityError,
        NoSpace,
        NotExecutable,
        PeerError,
        ProtocolError,
        RequestError,
        ServerTimeout,
        ServerUnreachable,
        StartError,
        Unavailable,
        UnknownMethod,
        UnknownTask,
    )
    from levity.operations.logs import LogChunk
    from levity.operations.run import Completed
    from levity.operations.wait import WaitTimeout
    from levity.states import State
    from levity.task import TaskRecord
    from levity.version import __version__

__all__ = [
    "AmbiguousTask",
    "AuthenticationError",
    "BadAddress",
    "BadDirectory",
    "Client",
    "CommandNotFound",
    "Completed",
    "Conflict",
    "ConnectionLost",
    "Forbidden",
    "HostError",
    "IncompleteLog",
    "InternalError",
    "InvalidRequest",
    "LevityError",
    "LogChunk",
    "NoSpace",
    "NotExecutable",
    "PeerError",
    "ProtocolError",
    "RequestError",
    "ServerTimeout",
    "ServerUnreachable",
    "StartError",
    "State",
    "TaskRecord",
    "Unavailable",
    "UnknownMethod",
    "UnknownTask",
    "WaitTimeout",
    "__version__",
]

# Where a public name is; those that are not here are in levity.errors.
_HOMES = {
    "Client": "levity.client",
    "Completed": "levity.operations.run",
    "LogChunk": "levity.operations.logs",
    "State": "levity.states",
    "TaskRecord": "levity.task",
    "WaitTimeout": "levity.operations.wait",
    "__version__": "levity.version",
}


# Hidden from type checkers: they would take any name for one that is there.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name on its first use (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module 'levity' has no attribute {name!r}")
        home = __import__(_HOMES.get(name, "levity.errors"), fromlist=[name])
        value: object = getattr(home, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
