"""The table of states: total, and its ends are ends. Runs in: pytest."""

import itertools

import pytest

from levity.states import ENDS, MOVES, State, may_move


def test_exactly_the_six_spelled_as_on_the_wire() -> None:
    assert [str(state) for state in State] == [
        "NotStarted",
        "Running",
        "Signalled",
        "Finished",
        "BrutallyKilled",
        "InternalServerError",
    ]
    assert State("BrutallyKilled") is State.BRUTALLY_KILLED
    assert f"{State.FINISHED}" == "Finished"


def test_the_table_is_total() -> None:
    assert set(MOVES) == set(State)


ORDER = [State.NOT_STARTED, State.RUNNING, State.SIGNALLED]


@pytest.mark.parametrize(("old", "new"), list(itertools.product(State, State)))
def test_every_pair(old: State, new: State) -> None:
    if old.is_end:
        expected = False
    elif new.is_end:
        expected = True
    else:
        expected = ORDER.index(new) > ORDER.index(old)
    assert may_move(old, new) is expected


def test_the_ends() -> None:
    assert {state for state in State if state.is_end} == ENDS
    assert {state for state in State if not MOVES[state]} == ENDS


@pytest.mark.parametrize("text", ["", "running", "Running ", "Paused"])
def test_no_other_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid State"):
        State(text)
