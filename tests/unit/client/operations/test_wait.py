"""Client.wait: ids, times and answers. Runs in: pytest."""

from typing import Any

import pytest

from levity import Client, State, WaitTimeout
from levity.errors import (
    InvalidRequest,
    ProtocolError,
    ServerTimeout,
)
from tests.support.fake_clock import FakeClock
from tests.support.fake_server import ID, FakeServer, Peer, answering, record

TIMEOUT_S = 20.0
ENDS = [{"id": ID, "state": "Finished", "exit_code": 3, "signal": None, "reason": ""}]
DONE = {"tasks": ENDS, "done": True}
ENDED = record(state="Finished", exit_code=3)


def test_wait_asks_once_and_returns_whole_records() -> None:
    with FakeServer(answering(DONE, ENDED)) as server, Client(server.address, TIMEOUT_S) as client:
        (task,) = client.wait("3f2a")
    assert (task.id, task.state, task.exit_code, task.argv) == (ID, State.FINISHED, 3, ["sleep", "60"])
    assert server.methods() == ["task.wait", "task.query"]
    params = {"ids": ["3f2a"], "any": False, "timeout_s": None, "heartbeat_s": TIMEOUT_S / 3}
    assert server.requests[0].params == params
    assert server.requests[1].params == {"id": ID}


def test_wait_for_any_of_several() -> None:
    answer = {"tasks": ENDS * 2, "done": True}
    with FakeServer(answering(answer, record(), ENDED)) as server, Client(server.address, TIMEOUT_S) as client:
        tasks = client.wait(["a", "b"], timeout=7, any=True)
    assert [task.state for task in tasks] == [State.RUNNING, State.FINISHED]
    assert server.requests[0].params["any"] is True
    assert 0 < server.requests[0].params["timeout_s"] <= 7


def test_a_wait_that_is_over_before_the_tasks() -> None:
    answer = {"tasks": ENDS * 2, "done": False}
    with (
        FakeServer(answering(answer, ENDED, record())) as server,
        Client(server.address, TIMEOUT_S) as client,
        pytest.raises(WaitTimeout, match="1 of 2 tasks are not over after 0 s") as caught,
    ):
        client.wait(["a", "b"], 0)
    assert [task.state for task in caught.value.records] == [State.FINISHED, State.RUNNING]


def test_an_end_between_the_answer_and_the_records_counts() -> None:
    answer = DONE | {"done": False}
    with FakeServer(answering(answer, ENDED)) as server, Client(server.address, TIMEOUT_S) as client:
        assert client.wait("a", 0)[0].exit_code == 3


def test_one_wait_that_is_over() -> None:
    with (
        FakeServer(answering(DONE | {"done": False}, record())) as server,
        Client(server.address) as client,
        pytest.raises(WaitTimeout, match=r"^the task is not over after 0.5 s$"),
    ):
        client.wait("a", 0.5)


def test_heartbeats_renew_the_time_and_a_broken_wait_asks_for_what_is_left() -> None:
    clock = FakeClock()

    def slow(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        if peer.number < 5:
            # Longer than the timeout, counted from the first: only the heartbeats tell that levityd is at it.
            clock.time += 0.9 * TIMEOUT_S
            peer.notify("heartbeat")
            return
        peer.reply(request, DONE)
        peer.reply(peer.request(), ENDED)

    with FakeServer(slow) as server, Client(server.address, TIMEOUT_S) as client:
        client.clock = clock
        assert client.wait("a", timeout=10 * TIMEOUT_S)[0].exit_code == 3
    asked = [request.params["timeout_s"] for request in server.requests[:6]]
    # The pauses before each try come on top.
    assert asked == pytest.approx([(10 - 0.9 * number) * TIMEOUT_S for number in range(6)], abs=0.5)


def test_a_wait_without_a_sign_of_life() -> None:
    def silent(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.notify("heartbeat")
        peer.notify("something.new")
        peer.wait_gone()

    with FakeServer(silent) as server, Client(server.address, timeout=0.5) as client, pytest.raises(ServerTimeout):
        client.wait("a")


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param([], id="no task"),
        pytest.param(["a"] * 1001, id="too many tasks"),
        pytest.param([""], id="an empty id among others"),
        pytest.param([5], id="a number"),
        pytest.param("", id="an empty id"),
    ],
)
def test_ids_that_make_no_sense(ids: Any) -> None:
    with pytest.raises(InvalidRequest):
        Client("127.0.0.1:1").wait(ids)


@pytest.mark.parametrize(
    "timeout",
    [
        pytest.param(-1, id="negative"),
        pytest.param(float("nan"), id="not a number"),
        pytest.param(float("inf"), id="infinite"),
        pytest.param("5", id="text"),
    ],
)
def test_a_wait_that_makes_no_sense(timeout: Any) -> None:
    with pytest.raises(InvalidRequest, match="makes no sense"):
        Client("127.0.0.1:1").wait("a", timeout)


@pytest.mark.parametrize(
    "tasks",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="no task"),
        pytest.param([5], id="a number as task"),
        pytest.param([{}], id="a task without id"),
        pytest.param([{"id": 5}], id="a number as id"),
        pytest.param([*ENDS, *ENDS], id="too many tasks"),
    ],
)
def test_an_answer_that_makes_no_sense(tasks: Any) -> None:
    with (
        FakeServer(answering({"tasks": tasks, "done": True})) as server,
        Client(server.address) as client,
        pytest.raises(ProtocolError, match="which tasks it waited for"),
    ):
        client.wait("a")


def test_start_with_the_options_of_this_version() -> None:
    script = answering(record(stdin=True, merged=True, log_cap=0, waiting="no space"))
    with FakeServer(script) as server, Client(server.address) as client:
        client.start(["cat"], stdin=True, merged=True, log_cap=0)
        task = client.submit(["cat"], log_cap=1 << 20)
    assert (task.stdin, task.merged, task.log_cap, task.waiting) == (True, True, 0, "no space")
    first, second = (request.params for request in server.requests)
    assert (first["stdin"], first["merged"], first["log_cap"]) == (True, True, 0)
    assert (second["log_cap"], "stdin" in second, "merged" in second) == (1 << 20, False, False)


@pytest.mark.parametrize(
    "log_cap",
    [
        pytest.param(-1, id="negative"),
        pytest.param(1, id="below the least"),
        pytest.param(True, id="a boolean"),
        pytest.param(1.5, id="a fraction"),
        pytest.param("1M", id="text"),
    ],
)
def test_a_log_cap_that_makes_no_sense(log_cap: Any) -> None:
    with pytest.raises(InvalidRequest, match="log cap"):
        Client("127.0.0.1:1").start(["ls"], log_cap=log_cap)
