"""The options of a task: one list, for those who ask and for those who check. Runs in: pytest."""

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.errors import InvalidRequest
from levity.operations.start_params import start_params
from levity.start_options import FIELDS, StartOptions
from tests.support.paths import ROOT

ID = "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42"
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
NAME = st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1, max_size=5)
GIVEN = st.fixed_dictionaries(
    {"argv": st.lists(TEXT, max_size=3).map(lambda words: ["ls", *words])},
    optional={
        "cwd": st.none() | NAME,
        "env": st.none() | st.dictionaries(NAME, TEXT, max_size=2),
        "grace_s": st.none() | st.floats(0, 604800) | st.integers(0, 604800),
        "stdin": st.booleans(),
        "merged": st.booleans(),
        "log_cap": st.none() | st.just(0) | st.integers(2**20, 2**62),
        "user": st.none() | st.sampled_from(("alice", "uid:7")),
    },
)


@given(GIVEN)
def test_the_engine_takes_what_the_client_sends(given_: dict[str, Any]) -> None:
    params = start_params(ID, given_)
    assert [name for name, value in params.items() if value is None] in ([], ["cwd"])
    options = StartOptions.from_request(params, log_cap=7)
    said = {name: value for name, value in given_.items() if value is not None}
    assert {name: options.values[name] for name in said} == said
    # And what it stores is what it reads again.
    stored = StartOptions.from_json(options.to_json())
    assert stored is not None
    assert stored.asks_for_the_same(options)
    assert stored.to_json() == options.to_json()


def test_an_option_that_is_left_out_is_not_sent_and_has_a_default() -> None:
    params = start_params(ID, {"argv": ["ls"], "stdin": False, "merged": False, "cwd": None, "env": {}})
    assert params == {"id": ID, "argv": ["ls"], "cwd": None, "env": {}}
    options = StartOptions.from_request(params, log_cap=7)
    assert options.values == {
        "argv": ["ls"],
        "cwd": None,
        "env": {},
        "grace_s": 5.0,
        "stdin": False,
        "merged": False,
        "log_cap": 7,
        "user": None,
    }


def test_a_keyword_that_is_no_option_is_a_mistake_in_the_program() -> None:
    with pytest.raises(TypeError, match="no option 'merge'"):
        start_params(ID, {"argv": ["ls"], "merge": True})


@pytest.mark.parametrize("grace_s", [-1, True, "5", float("nan"), float("inf"), 604801])
def test_a_grace_period_is_refused_on_both_sides(grace_s: Any) -> None:
    with pytest.raises(InvalidRequest, match="grace period makes no sense"):
        start_params(ID, {"argv": ["ls"], "grace_s": grace_s})
    with pytest.raises(InvalidRequest, match="grace period makes no sense"):
        StartOptions.from_request({"argv": ["ls"], "grace_s": grace_s})


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ({"argv": ["ls", "-l"]}, True),
        ({"cwd": "/"}, True),
        ({"env": {"A": "b"}}, True),
        ({"stdin": True}, True),
        ({"merged": True}, True),
        ({"grace_s": 1.0}, False),
        ({"log_cap": 0}, False),
        ({"user": "alice"}, False),
    ],
    ids=str,
)
def test_by_these_a_second_start_is_told_from_another_task(change: dict[str, Any], is_another: bool) -> None:
    one, other = (StartOptions.from_request({"argv": ["ls"], **more}, log_cap=7) for more in ({}, change))
    assert one.asks_for_the_same(other) is not is_another


def test_no_option_can_be_changed() -> None:
    options = StartOptions.from_request({"argv": ["ls"]}, log_cap=7)
    with pytest.raises(AttributeError):
        options.merged = True  # type: ignore[misc]


def test_type_checkers_know_every_option() -> None:
    """The keywords stand there once more with their types."""
    tree = ast.parse((ROOT / "levity" / "start_options.py").read_text())
    typed = {
        line.target.id
        for found in ast.walk(tree)
        if isinstance(found, ast.ClassDef) and found.name in {"RunOptions", "Options"}
        for line in found.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }
    # Those can be given without their names, too.
    assert typed == set(FIELDS) - {"argv", "cwd", "env", "grace_s"}
