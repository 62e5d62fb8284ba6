"""Which user the front-end becomes where levityd is root."""

import pwd
from collections.abc import Callable

import pytest

from supervisor.arbiter.frontend_user import frontend_ids


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        pytest.param((101, 102), (101, 102), id="the account levity"),
        pytest.param((0, 0), (61186, 61186), id="an account levity that is root"),
        pytest.param((101, 0), (61186, 61186), id="an account levity in the group of root"),
        pytest.param(None, (61186, 61186), id="no account levity"),
    ],
)
def test_which_user_the_front_end_becomes(account: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    """The account `levity`, else the first free number: 61184 is a user's here, and 61185 a group's."""

    def find(name: str) -> pwd.struct_passwd:
        assert name == "levity"
        if account is None:
            raise KeyError(name)
        return pwd.struct_passwd((name, "x", *account, "", "/", "/bin/sh"))

    def only(known: int) -> Callable[[int], object]:
        def look_up(number: int) -> object:
            if number != known:
                raise KeyError(number)
            return number

        return look_up

    assert frontend_ids(find, only(61184), only(61185)) == expected
