"""The parameters of task.logs. Runs in: client. Owns: nothing. Never: does I/O."""

from levity.errors import InvalidRequest
from levity.protocol.limits import HEARTBEAT_LEAST_S, HEARTBEAT_LIMIT_S, POSITION_LIMIT
from levity.timestamps import NS

__all__ = ["STREAMS", "Moment", "heartbeat_s", "log_params"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection
    from typing import Any

    JsonObject = dict[str, Any]
    When = float | dt.datetime | dt.timedelta

STREAMS = ("stdout", "stderr")


class Moment:
    """A moment in nanoseconds: since the epoch, or if `ago`, before levityd's present time."""

    __slots__ = ("ago", "ns")

    def __init__(self, ns: int, ago: bool = False) -> None:
        self.ns = ns
        self.ago = ago

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moment) and (self.ns, self.ago) == (other.ns, other.ago)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Moment {self.ns} ns {'ago' if self.ago else 'since the epoch'}>"


def heartbeat_s(timeout_s: float) -> float:
    """Return the interval of heartbeats for a client that gives up after `timeout_s` of silence: a third of it."""
    return min(max(timeout_s / 3, HEARTBEAT_LEAST_S), HEARTBEAT_LIMIT_S)


def log_params(
    task_id: str,
    timeout_s: float,
    follow: bool = False,
    tail: int | None = None,
    since: "When | Moment | None" = None,
    until: "When | Moment | None" = None,
    streams: "Collection[str] | None" = None,
    exact_times: bool = False,
    cursor: str | None = None,
) -> "JsonObject":
    """Return the parameters of task.logs; InvalidRequest for values that make no sense."""
    params: JsonObject = {"id": task_id, "heartbeat_s": heartbeat_s(timeout_s)}
    if follow:
        params["follow"] = True
    if exact_times:
        params["exact_times"] = True
    if tail is not None:
        params["tail"] = _tail(tail)
    if streams is not None:
        params["streams"] = _streams(streams)
    for name, value in (("since", since), ("until", until)):
        if value is not None:
            moment = _moment(name, value)
            params[f"{name}_ago_ns" if moment.ago else f"{name}_ns"] = moment.ns
    if cursor is not None:
        params["id"], params["from"] = _cursor(task_id, cursor)
    return params


def _tail(tail: int) -> int:
    if isinstance(tail, bool) or not isinstance(tail, int) or tail < 0:
        raise InvalidRequest(f"tail is a number of lines, not {tail!r}")
    return tail


def _streams(streams: "Collection[str]") -> list[str]:
    chosen = [name for name in STREAMS if name in streams]
    if isinstance(streams, str) or not chosen or len(chosen) < len(set(streams)):
        raise InvalidRequest(f"streams is a list of 'stdout', 'stderr' or both, not {streams!r}")
    return chosen


def _moment(name: str, value: "When | Moment") -> Moment:
    if isinstance(value, Moment):
        moment = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        moment = Moment(_nanoseconds(name, value))
    # By their methods: to compare classes, datetime would have to be imported.
    elif (total_seconds := getattr(value, "total_seconds", None)) is not None:
        moment = Moment(_nanoseconds(name, total_seconds()), ago=True)
    elif (timestamp := getattr(value, "timestamp", None)) is not None:
        moment = Moment(round(timestamp() * 1e6) * 1000)
    else:
        raise InvalidRequest(f"{name} is seconds since the epoch, a datetime or a timedelta, not {value!r}")
    if not 0 <= moment.ns <= POSITION_LIMIT:
        raise InvalidRequest(f"{name} makes no sense: it is before 1970 or too far away")
    return moment


def _nanoseconds(name: str, seconds: float) -> int:
    try:
        return seconds * NS if isinstance(seconds, int) else round(seconds * NS)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} makes no sense: {seconds!r}") from None


def _cursor(task_id: str, cursor: str) -> "tuple[str, dict[str, int]]":
    """Return the task's id and the positions in a LogChunk's cursor."""
    try:
        full_id, stdout, stderr = cursor.split("/")
        positions = {"stdout": int(stdout), "stderr": int(stderr)}
    except (AttributeError, ValueError):
        raise InvalidRequest(f"{cursor!r} is no cursor: it is what a LogChunk has as its `cursor`") from None
    if not full_id.startswith(task_id.lower()):
        raise InvalidRequest(f"the cursor {cursor!r} is one of another task")
    return full_id, positions
