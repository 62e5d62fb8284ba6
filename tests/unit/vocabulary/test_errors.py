"""The error tree and its wire codes. Runs in: pytest."""

import pytest

import levity
from levity import WaitTimeout, errors
from levity.errors import LevityError, from_wire

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "from_wire"]


@pytest.mark.parametrize("cls", CLASSES)
def test_each_is_a_levity_error_with_a_documented_exit_status(cls: type[LevityError]) -> None:
    error = cls("what happened; what to do")
    assert isinstance(error, LevityError)
    assert error.message == str(error) == "what happened; what to do"
    assert error.exit_status in (1, 2, 124, 126, 127, 255)
    assert cls.__doc__


@pytest.mark.parametrize("cls", CLASSES)
def test_each_is_public(cls: type[LevityError]) -> None:
    assert getattr(levity, cls.__name__) is cls
    assert cls.__name__ in levity.__all__


def test_codes_on_the_wire_never_change() -> None:
    own = {cls.__name__: cls.code for cls in CLASSES if "code" in vars(cls)}
    assert own == {
        "LevityError": -32000,
        "InvalidRequest": -32602,
        "UnknownMethod": -32601,
        "UnknownTask": 1,
        "AmbiguousTask": 2,
        "Conflict": 3,
        "Forbidden": 5,
        "StartError": 10,
        "CommandNotFound": 11,
        "NotExecutable": 12,
        "BadDirectory": 13,
        "HostError": 20,
        "NoSpace": 21,
        "InternalError": -32603,
        "Unavailable": 30,
        "AuthenticationError": 40,
        "ProtocolError": -32700,
    }
    for name, code in own.items():
        assert type(from_wire(code, "m")) is getattr(errors, name)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(0, id="zero"),
        pytest.param(999, id="positive"),
        pytest.param(-1, id="negative"),
        pytest.param(2**70, id="huge"),
    ],
)
def test_an_unknown_code_is_a_plain_error(code: int) -> None:
    error = from_wire(code, "from a newer levityd")
    assert type(error) is LevityError
    assert error.message == "from a newer levityd"


def test_exit_statuses() -> None:
    assert errors.CommandNotFound.exit_status == 127
    assert errors.NotExecutable.exit_status == errors.StartError.exit_status == 126
    assert errors.ServerUnreachable.exit_status == errors.ServerTimeout.exit_status == 255
    assert errors.ProtocolError.exit_status == 255
    assert errors.InvalidRequest.exit_status == errors.BadAddress.exit_status == 2
    assert WaitTimeout.exit_status == 124
    assert errors.IncompleteLog.exit_status == 1
    assert errors.UnknownTask.exit_status == errors.AmbiguousTask.exit_status == errors.BadDirectory.exit_status == 1
