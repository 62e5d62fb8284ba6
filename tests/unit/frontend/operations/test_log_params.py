"""What a task.logs and a task.stdin may ask for, and what is refused."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.errors import InvalidRequest
from supervisor.engine.storage.stdin_spool import parse_input
from supervisor.frontend.client_socket import heartbeat_of
from supervisor.frontend.operations.log_params import LogParams, parse_log_params

NOW = 1_000_000


def test_nothing_asked_for_is_everything_so_far() -> None:
    expected = LogParams(
        follow=False, tail=None, since_ns=None, until_ns=None, streams=(1, 2), exact=False, start=None, heartbeat_s=10.0
    )
    assert parse_log_params({"id": "3f2a"}, NOW) == expected


def test_everything_asked_for() -> None:
    params = {
        "follow": True,
        "tail": 0,
        "since_ago_ns": 1,
        "until_ns": 5,
        "streams": ["stderr", "stdout", "stderr"],
        "exact_times": True,
        "from": {"stdout": 3, "stderr": 0},
        "heartbeat_s": 0.5,
    }
    assert parse_log_params(params, NOW) == LogParams(
        follow=True,
        tail=0,
        since_ns=NOW - 1,
        until_ns=5,
        streams=(1, 2),
        exact=True,
        start={1: 3, 2: 0},
        heartbeat_s=0.5,
    )
    assert parse_log_params({"streams": ["stderr"]}, NOW).streams == (2,)
    assert parse_log_params({"since_ago_ns": NOW * 2}, NOW).since_ns == 0


@pytest.mark.parametrize(
    "params",
    [
        {"follow": 1},
        {"tail": -1},
        {"tail": True},
        {"tail": 1.5},
        {"tail": 2**63},
        {"since_ns": "1"},
        {"until_ago_ns": -1},
        {"since_ns": 1, "since_ago_ns": 1},
        {"streams": []},
        {"streams": "stdout"},
        {"streams": ["stdin"]},
        {"streams": [["stdout"]]},
        {"exact_times": None},
        {"from": {"stdout": 1}},
        {"from": {"stdout": 1, "stderr": -1}},
        {"from": [1, 2]},
        {"heartbeat_s": 0},
        {"heartbeat_s": True},
        {"heartbeat_s": 1e300},
        {"heartbeat_s": None},
    ],
)
def test_params_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        parse_log_params(params, NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    [
        "follow",
        "tail",
        "since_ns",
        "until_ago_ns",
        "streams",
        "from",
        "heartbeat_s",
        "offset",
        "data",
        "end",
        "limit_bytes",
    ]
)


@given(st.dictionaries(names, json_values, max_size=6))
def test_any_json_is_taken_or_refused(params: dict[str, Any]) -> None:
    for parse in (lambda: parse_log_params(params, NOW), lambda: parse_input(params), lambda: heartbeat_of(params)):
        try:
            parse()
        except InvalidRequest:
            continue


@given(st.binary(max_size=100), st.integers(0, 2**62), st.booleans())
def test_input_of_any_bytes(data: bytes, offset: int, end: bool) -> None:
    piece = parse_input({"offset": offset, "data": base64.b64encode(data).decode(), "end": end})
    assert (piece.offset, piece.data, piece.is_last) == (offset, data, end)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"offset": -1},
        {"offset": True},
        {"offset": 0, "data": "not base64!"},
        {"offset": 0, "data": "YQ"},
        {"offset": 0, "data": b"".hex() + "é"},
        {"offset": 0, "data": 7},
        {"offset": 0, "end": 1},
        {"offset": 0, "limit_bytes": -1},
        {"offset": 0, "data": "A" * (4 * 1024 * 1024)},
    ],
)
def test_input_that_makes_no_sense_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        parse_input(params)
