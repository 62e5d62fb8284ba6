"""`levity wait`: what it prints and how it exits. Runs in: pytest."""

import pytest

from levity.cli.main import main
from levity.errors import UnknownTask
from tests.support.fake_server import ID, FakeServer, answering, record

Captured = pytest.CaptureFixture[bytes]


def run(server: FakeServer, *words: str) -> int:
    return main(["-a", server.address, *words])


def waits(*tasks: dict[str, object], done: bool = True) -> FakeServer:
    """Return a server with these tasks."""
    records = [record(id=f"{number}-{ID}", **task) for number, task in enumerate(tasks)]
    return FakeServer(answering({"tasks": records, "done": done}, *records))


FINISHED: dict[str, object] = {"state": "Finished", "exit_code": 3}
LOST: dict[str, object] = {"state": "InternalServerError", "reason": "monitor lost"}


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        pytest.param([FINISHED], 3, id="it failed"),
        pytest.param([FINISHED | {"exit_code": 0}], 0, id="it succeeded"),
        pytest.param([FINISHED | {"exit_code": 143, "signal": "SIGTERM"}], 143, id="it ended by a signal"),
    ],
)
def test_wait_for_one_prints_nothing(tasks: list[dict[str, object]], code: int, capfdbinary: Captured) -> None:
    with waits(*tasks) as server:
        assert run(server, "wait", "a") == code
    assert capfdbinary.readouterr() == (b"", b"")
    assert server.requests[0].params["timeout_s"] is None


def test_wait_for_one_that_levity_failed(capfdbinary: Captured) -> None:
    with waits(LOST) as server:
        assert run(server, "wait", "a") == 125
    assert capfdbinary.readouterr() == (b"", f"levity: task 0-{ID}: monitor lost\n".encode())


def test_wait_for_several_prints_a_line_for_each(capfdbinary: Captured) -> None:
    with waits(LOST, FINISHED) as server:
        assert run(server, "wait", "--timeout", "5", "a", "b") == 3
    assert capfdbinary.readouterr() == (f"0-{ID} InternalServerError -\n1-{ID} Finished 3\n".encode(), b"")
    assert 0 < server.requests[0].params["timeout_s"] <= 5


def test_wait_for_any_exits_with_the_first_that_is_over(capfdbinary: Captured) -> None:
    with waits({}, FINISHED, FINISHED | {"exit_code": 4}) as server:
        assert run(server, "wait", "--any", "a", "b", "c") == 3
    assert capfdbinary.readouterr().out.splitlines()[0] == f"0-{ID} Running -".encode()
    assert server.requests[0].params["any"] is True


def test_a_wait_that_is_over_too_early(capfdbinary: Captured) -> None:
    with waits({}, done=False) as server:
        assert run(server, "wait", "--timeout", "0", "a") == 124
    assert capfdbinary.readouterr() == (b"", b"levity: the task is not over after 0 s\n")
    with waits(FINISHED, {}, done=False) as server:
        assert run(server, "wait", "a", "--timeout", "0.5", "b") == 124
    out, err = capfdbinary.readouterr()
    assert out == f"0-{ID} Finished 3\n1-{ID} Running -\n".encode()
    assert err == b"levity: 1 of 2 tasks are not over after 0.5 s\n"


def test_an_error_of_wait_is_no_tasks_code(capfdbinary: Captured) -> None:
    with FakeServer(answering(UnknownTask("no task"))) as server:
        assert run(server, "wait", "a") == 125
    assert run(server, "wait", "a") == 255
    assert capfdbinary.readouterr().err.startswith(b"levity: no task\n")
