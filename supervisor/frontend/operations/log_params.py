"""task.logs: the parameters, checked. Runs in: front-end. Owns: nothing. Never: does I/O."""

from dataclasses import dataclass

from levity.errors import InvalidRequest
from levity.protocol.limits import POSITION_LIMIT
from supervisor.frontend.client_socket import heartbeat_of
from supervisor.spool.layout import STREAMS
from supervisor.spool.records import JsonObject

__all__ = ["LogParams", "parse_log_params"]

_NUMBERS = {name: number for number, name in STREAMS.items()}


@dataclass(frozen=True)
class LogParams:
    """The parameters of a task.logs (docs/protocol.md), checked; times are nanoseconds since the epoch."""

    follow: bool
    tail: int | None
    since_ns: int | None
    until_ns: int | None
    streams: tuple[int, ...]
    exact: bool
    start: dict[int, int] | None
    heartbeat_s: float


def parse_log_params(params: JsonObject, now_ns: int) -> LogParams:
    """Check the parameters of a task.logs; InvalidRequest says what is wrong. "Ago" is counted from `now_ns`."""
    return LogParams(
        follow=_flag(params, "follow"),
        tail=_whole(params, "tail"),
        since_ns=_time(params, "since", now_ns),
        until_ns=_time(params, "until", now_ns),
        streams=_streams(params.get("streams")),
        exact=_flag(params, "exact_times"),
        start=_start(params.get("from")),
        heartbeat_s=heartbeat_of(params),
    )


def _flag(params: JsonObject, name: str) -> bool:
    value = params.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{name}' is neither true nor false")
    return value


def _whole(params: JsonObject, name: str) -> int | None:
    value = params.get(name)
    if value is not None and not _is_position(value):
        raise InvalidRequest(f"'{name}' is not a whole number from 0 on")
    return value


def _time(params: JsonObject, name: str, now_ns: int) -> int | None:
    at, ago = _whole(params, f"{name}_ns"), _whole(params, f"{name}_ago_ns")
    if at is not None and ago is not None:
        raise InvalidRequest(f"'{name}_ns' and '{name}_ago_ns' exclude each other")
    return at if ago is None else max(0, now_ns - ago)


def _streams(value: object) -> tuple[int, ...]:
    if value is None:
        return tuple(STREAMS)
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(name, str) and name in _NUMBERS for name in value)
    ):
        raise InvalidRequest("'streams' is not a list of 'stdout', 'stderr' or both")
    return tuple(sorted({_NUMBERS[name] for name in value}))


def _start(value: object) -> dict[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(_is_position(value.get(name)) for name in _NUMBERS):
        raise InvalidRequest("'from' does not give a position in stdout and one in stderr")
    return {number: value[name] for name, number in _NUMBERS.items()}


def _is_position(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= POSITION_LIMIT
