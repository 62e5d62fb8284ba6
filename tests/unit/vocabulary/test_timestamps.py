"""Points in time as text. Runs in: pytest."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from levity.cli.times import parse_time
from levity.operations.log_params import Moment
from levity.timestamps import rfc3339


@given(st.integers(0, 2**63))
def test_a_timestamp_is_exact_of_one_width_and_reads_back(time_ns: int) -> None:
    shown = rfc3339(time_ns)
    assert len(shown) == 30
    assert parse_time(shown) == Moment(time_ns)
    seconds = dt.datetime.fromtimestamp(time_ns // 10**9, dt.UTC)
    assert shown == f"{seconds:%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09}Z"


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_timestamps_sort_as_their_times_do(one: int, other: int) -> None:
    assert (rfc3339(one) < rfc3339(other)) == (one < other)
