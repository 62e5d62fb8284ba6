"""The engine's check of what clients ask: whatever JSON holds, the answer is a spec or an InvalidRequest."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levity.errors import InvalidRequest
from levity.start_options import StartOptions
from supervisor.engine.operations.page_token import open_page_token, seal_page_token
from supervisor.engine.operations.params import check_start, grace_of, page_of, prefix_of, wait_of
from supervisor.spool.records import Spec

ID = "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42"
CAP = 2**30
GOOD: dict[str, Any] = {
    "id": ID,
    "argv": ["ls", "-l"],
    "cwd": "/tmp",
    "env": {"A": "b"},
    "grace_s": 2,
    "stdin": True,
    "merged": True,
    "log_cap": 2**20,
}

# The first text that Hypothesis makes costs it seconds on a loaded machine.
UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def checked(params: dict[str, Any]) -> StartOptions:
    task_id, options = check_start(params, CAP)
    assert task_id == ID
    return options


def test_a_good_request_becomes_a_spec() -> None:
    assert checked(GOOD).to_json() | {"id": ID} == GOOD | {"grace_s": 2.0}


def test_a_param_that_is_left_out_has_a_default() -> None:
    for params in (
        {"id": ID, "argv": ["ls"]},
        {"id": ID, "argv": ["ls"], "cwd": None, "grace_s": None, "log_cap": None},
    ):
        options = checked(params)
        assert (options.cwd, options.env, options.grace_s) == (None, {}, 5.0)
        assert (options.stdin, options.merged, options.log_cap) == (False, False, CAP)


def test_a_task_may_have_no_cap_where_levityd_has_one() -> None:
    assert checked({**GOOD, "log_cap": 0}).log_cap == 0


@pytest.mark.parametrize(
    "change",
    [
        {"id": ID.upper()},
        {"id": ID[:-1]},
        {"id": ID + "\n"},
        {"id": "../" + ID[3:]},
        {"id": None},
        {"argv": []},
        {"argv": "ls"},
        {"argv": ["ls", 1]},
        {"argv": ["ls", "a\0b"]},
        {"argv": ["ls", "\ud800"]},
        {"cwd": 1},
        {"cwd": "/\0"},
        {"env": []},
        {"env": {"A": 1}},
        {"env": {"": "x"}},
        {"env": {"A=B": "x"}},
        {"env": {"A\0": "x"}},
        {"env": {"A": "\0"}},
        {"grace_s": -1},
        {"grace_s": True},
        {"grace_s": "5"},
        {"grace_s": float("nan")},
        {"grace_s": float("inf")},
        {"grace_s": 1e9},
        {"stdin": 1},
        {"stdin": None},
        {"merged": "yes"},
        {"log_cap": -1},
        {"log_cap": 1},
        {"log_cap": 2**20 - 1},
        {"log_cap": 2**64},
        {"log_cap": 2.0**20},
        {"log_cap": True},
        {"log_cap": "1M"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_bad_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        check_start({**GOOD, **change}, CAP)


def test_bytes_that_are_no_text_pass() -> None:
    """As PEP 383 writes them."""
    assert checked({**GOOD, "argv": ["ls", "\udcff"]}).argv == ["ls", "\udcff"]


@UNHURRIED
@given(
    st.dictionaries(st.sampled_from(("id", "argv", "cwd", "env", "grace_s", "stdin", "merged", "log_cap", "x")), JSON)
)
def test_anything_is_a_spec_or_refused(params: dict[str, Any]) -> None:
    for params_or_more in (params, {"id": ID, "argv": ["ls"], **params}):
        try:
            task_id, options = check_start(params_or_more, CAP)
        except InvalidRequest:
            continue
        assert task_id == ID
        assert options.argv
        assert {type(value) for value in (options.stdin, options.merged)} == {bool}
        assert type(options.log_cap) is int
        # What was taken makes a whole spec.
        assert Spec.from_json(Spec(task_id, options).to_json()) == Spec(task_id, options)


@UNHURRIED
@given(st.dictionaries(st.sampled_from(("id", "grace_s", "all", "after", "limit", "ids", "any", "within_s")), JSON))
def test_anything_is_a_value_or_refused(params: dict[str, Any]) -> None:
    for ask in (grace_of, prefix_of, page_of, wait_of):
        try:
            value = ask(params)
        except InvalidRequest:
            continue
        if ask is page_of:
            assert isinstance(value, tuple)
            assert value[1] is None or isinstance(value[1], str)
            assert isinstance(value[2], int)
            assert 1 <= value[2] <= 500


def test_a_wait_is_for_one_id_or_many() -> None:
    assert wait_of({"ids": [ID], "within_s": 5}) == ([ID], False, 5.0)
    assert wait_of({"ids": [ID.upper(), "3f"], "any": True, "within_s": 0}) == ([ID, "3f"], True, 0.0)
    assert len(wait_of({"ids": ["a"] * 1000, "within_s": 3600})[0]) == 1000


@pytest.mark.parametrize(
    "change",
    [
        {"ids": None},
        {"ids": []},
        {"ids": ["a"] * 1001},
        {"ids": ID},
        {"ids": [ID, 7]},
        {"ids": [""]},
        {"any": 1},
        {"any": None},
        {"within_s": None},
        {"within_s": -1},
        {"within_s": 3601},
        {"within_s": True},
        {"within_s": float("nan")},
        {"within_s": "5"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_wait_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        wait_of({"ids": [ID], "any": False, "within_s": 5, **change})


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**63 - 1))
def test_a_cursor_is_understood_by_us_alone(key: bytes, number: int) -> None:
    cursor = seal_page_token(key, number)
    assert open_page_token(key, cursor) == number
    # One number is never told from another: each is another text each time.
    assert seal_page_token(key, number) != cursor
    assert len(cursor) == len(seal_page_token(key, 0))


@given(st.text())
def test_any_cursor_leads_somewhere_or_is_refused(text: str) -> None:
    try:
        assert 0 <= open_page_token(bytes(32), text) < 2**63
    except InvalidRequest:
        pass
