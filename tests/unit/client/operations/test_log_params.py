"""The parameters of task.logs: what makes no sense is refused. Runs in: pytest."""

import datetime as dt
from typing import Any

import pytest

from levity import Client
from levity.errors import InvalidRequest


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({"tail": -1}, "tail is a number of lines", id="a negative tail"),
        pytest.param({"tail": True}, "tail is a number of lines", id="a boolean tail"),
        pytest.param({"tail": "5"}, "tail is a number of lines", id="a tail as text"),
        pytest.param({"streams": []}, "streams is a list", id="no stream"),
        pytest.param({"streams": "stdout"}, "streams is a list", id="one stream as text"),
        pytest.param({"streams": ["stdout", "x"]}, "streams is a list", id="an unknown stream"),
        pytest.param({"since": "10m"}, "since is seconds", id="since as text"),
        pytest.param({"since": True}, "since is seconds", id="a boolean since"),
        pytest.param({"until": float("nan")}, "until makes no sense", id="until is not a number"),
        pytest.param({"until": float("inf")}, "until makes no sense", id="until is infinite"),
        pytest.param({"since": -1}, "since makes no sense", id="since before the epoch"),
        pytest.param({"since": dt.timedelta(-1)}, "since makes no sense", id="since in the future"),
        pytest.param({"cursor": "x"}, "no cursor", id="a cursor without positions"),
        pytest.param({"cursor": 5}, "no cursor", id="a number as cursor"),
        pytest.param({"cursor": "9999/1/2"}, "of another task", id="a cursor of another task"),
    ],
)
def test_params_that_make_no_sense_are_refused_without_asking(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        Client("127.0.0.1:1").logs("3f2a", **options)
