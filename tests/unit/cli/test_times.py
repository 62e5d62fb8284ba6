"""Times on the command line. Runs in: pytest."""

import time
from collections.abc import Iterator

import pytest

from levity.cli.times import parse_time
from levity.operations.log_params import Moment

T = 1_795_513_262 * 10**9


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time is that of Berlin."""
    with monkeypatch.context() as patch:
        # As POSIX writes it: no database of time zones is needed.
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("10s", Moment(10 * 10**9, ago=True), id="10s"),
        pytest.param("10m", Moment(600 * 10**9, ago=True), id="10m"),
        pytest.param("2h", Moment(7200 * 10**9, ago=True), id="2h"),
        pytest.param("3d", Moment(3 * 86400 * 10**9, ago=True), id="3d"),
        pytest.param("0s", Moment(0, ago=True), id="0s"),
        pytest.param("1795513262", Moment(T), id="1795513262"),
        pytest.param("0", Moment(0), id="0"),
        pytest.param("1795513262.5", Moment(T + 500_000_000), id="1795513262.5"),
        pytest.param("1795513262.123456789", Moment(T + 123_456_789), id="1795513262.123456789"),
        pytest.param("1795513262.1234567899", Moment(T + 123_456_789), id="1795513262.1234567899"),
        pytest.param("2026-11-24T09:41:02Z", Moment(T), id="2026-11-24T09:41:02Z"),
        pytest.param("2026-11-24t09:41:02z", Moment(T), id="2026-11-24t09:41:02z"),
        pytest.param("2026-11-24 09:41:02Z", Moment(T), id="2026-11-24 09:41:02Z"),
        pytest.param("2026-11-24T09:41:02.000000005Z", Moment(T + 5), id="2026-11-24T09:41:02.000000005Z"),
        pytest.param("2026-11-24T10:41:02.5+01:00", Moment(T + 500_000_000), id="2026-11-24T10:41:02.5+01:00"),
        pytest.param("2026-11-24T04:11:02-05:30", Moment(T), id="2026-11-24T04:11:02-05:30"),
        pytest.param("2026-11-24T10:41:02", Moment(T), id="2026-11-24T10:41:02"),
        pytest.param(
            "2026-07-24T11:41:02.25", Moment(1_784_886_062 * 10**9 + 250_000_000), id="2026-07-24T11:41:02.25"
        ),
    ],
)
@pytest.mark.usefixtures("in_berlin")
def test_every_form(text: str, moment: Moment) -> None:
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        *["", "now", "-5", "10 m", "1.5h", "m", "10w", "٣s", "1e9", "1_0", ".5", "5.", "999999999999", " 5s", "5s\n"],
        *["2026-11-24", "2026-11-24T09:41Z", "2026-13-24T09:41:02Z", "2026-11-24T25:41:02Z", "2026-11-24T09:41:02ZZ"],
        *["2026-11-24T09:41:02+0100", "20261124T094102Z", "2026-11-24T09:41:02.Z", "0001-01-01T00:00:00"],
    ],
)
def test_a_text_that_is_no_time(text: str) -> None:
    moment = parse_time(text)
    # The year 1 is a time, but before the epoch: `logs` refuses it.
    assert moment is None or moment.ns < 0
