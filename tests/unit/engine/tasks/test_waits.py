"""Waiting for the end of tasks: answered once, when it is time, and nothing of it is left anywhere."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from levity.errors import CommandNotFound, LevityError
from levity.states import State
from supervisor.engine.loop import Loop
from supervisor.engine.tasks.live_task import Adopted, Ended, LiveTask, Running
from supervisor.engine.tasks.record import make_brief
from supervisor.engine.tasks.waits import Wait
from tests.support.records import an_end, shim_record, spec

FAR_S = 3600.0


@pytest.fixture
def loop() -> Iterator[Loop]:
    one = Loop()
    yield one
    one._selector.close()


def task(name: str) -> LiveTask:
    return LiveTask(spec(id=name), Adopted([], []))


def end(one: LiveTask, code: int = 0) -> None:
    if one.state is not State.FINISHED:
        one.become(Ended(an_end(exit_code=code)))
    one.tell_end(one.record())


class Waiter:
    """A wait on tasks of these names, those in `over` being so from the beginning; `answers` is what it was told."""

    def __init__(
        self, loop: Loop, live: str, over: str = "", *, one_is_enough: bool = False, within_s: float = FAR_S
    ) -> None:
        self.tasks = {name: task(name) for name in live}
        self.answers: list[dict[str, Any] | LevityError] = []
        briefs = {name: make_brief(name, State.FINISHED, an_end(exit_code=7)) for name in over}
        ids = list(over + live)
        self.wait = wait = Wait(ids, briefs, dict(self.tasks), one_is_enough=one_is_enough, answer=self.answers.append)
        wait.begin(loop, within_s)

    @property
    def answer(self) -> dict[str, Any]:
        (answer,) = self.answers
        assert isinstance(answer, dict)
        return answer

    def codes(self) -> dict[str, object]:
        return {brief["id"]: brief["exit_code"] for brief in self.answer["tasks"]}

    def is_gone(self) -> bool:
        return not any(one.ended for one in self.tasks.values())


def test_all_must_be_over(loop: Loop) -> None:
    waiter = Waiter(loop, "abc")
    for name in "bac":
        assert waiter.answers == []
        end(waiter.tasks[name], ord(name))
    assert waiter.answer["done"]
    assert [brief["id"] for brief in waiter.answer["tasks"]] == ["a", "b", "c"]
    assert waiter.codes() == {"a": 97, "b": 98, "c": 99}
    assert waiter.is_gone()


def test_one_end_is_enough_for_a_wait_for_any(loop: Loop) -> None:
    waiter = Waiter(loop, "abc", one_is_enough=True)
    end(waiter.tasks["b"], 3)
    assert waiter.answer["done"]
    assert waiter.codes() == {"a": None, "b": 3, "c": None}
    assert waiter.is_gone()
    end(waiter.tasks["a"])
    assert len(waiter.answers) == 1


@pytest.mark.parametrize(("live", "over", "one_is_enough"), [("", "a", False), ("", "ab", True), ("b", "a", True)])
def test_a_wait_for_tasks_that_are_over_is_answered_at_once(
    loop: Loop, live: str, over: str, one_is_enough: bool
) -> None:
    waiter = Waiter(loop, live, over, one_is_enough=one_is_enough)
    assert waiter.answer["done"]
    assert waiter.codes()["a"] == 7
    assert waiter.is_gone()
    assert not loop._timers


def test_time_over_is_no_error(loop: Loop) -> None:
    waiter = Waiter(loop, "ab", "c", within_s=0.01)
    waiter.tasks["b"].become(Running(shim_record(), 0, []))
    loop.later(0.03, loop.stop)
    loop.run(lambda: None)
    assert not waiter.answer["done"]
    assert {brief["id"]: brief["state"] for brief in waiter.answer["tasks"]} == {
        "a": State.NOT_STARTED,
        "b": State.RUNNING,
        "c": State.FINISHED,
    }
    assert waiter.is_gone()
    end(waiter.tasks["a"])
    assert len(waiter.answers) == 1


def test_a_task_that_fails_to_start_ends_the_wait_with_its_error(loop: Loop) -> None:
    waiter = Waiter(loop, "ab")
    error = CommandNotFound("no such command")
    waiter.tasks["a"].tell_end(error)
    assert waiter.answers == [error]
    assert waiter.is_gone()
    end(waiter.tasks["b"])
    assert len(waiter.answers) == 1


def test_a_task_that_is_named_twice_is_told_twice(loop: Loop) -> None:
    one = task("a")
    answers: list[Any] = []
    Wait(["a", "b", "a"], {"b": {"id": "b"}}, {"a": one}, one_is_enough=False, answer=answers.append).begin(loop, FAR_S)
    end(one)
    assert [brief["id"] for brief in answers[0]["tasks"]] == ["a", "b", "a"]


def test_many_waits_for_one_task_are_all_answered(loop: Loop) -> None:
    one = task("a")
    answers: list[Any] = []
    for _ in range(100):
        Wait(["a"], {}, {"a": one}, one_is_enough=False, answer=answers.append).begin(loop, FAR_S)
    end(one)
    assert [answer["done"] for answer in answers] == [True] * 100
    assert not one.ended


@pytest.mark.parametrize("one_is_enough", [False, True])
def test_in_every_order_of_events_there_is_one_answer_and_nothing_left(loop: Loop, one_is_enough: bool) -> None:
    for order in itertools.permutations(("a", "b", "fail", "time")):
        waiter = Waiter(loop, "abc", one_is_enough=one_is_enough, within_s=FAR_S)
        timer = loop._timers[-1][2]
        for event in order:
            if event == "time":
                if timer.call is not None:
                    timer.call()
            elif event == "fail":
                waiter.tasks["c"].tell_end(CommandNotFound("no such command"))
            else:
                end(waiter.tasks[event])
        assert len(waiter.answers) == 1, order
        assert waiter.is_gone(), order
        assert timer.call is None, order
        loop._timers.clear()


def test_a_client_that_has_left_leaves_nothing(loop: Loop) -> None:
    waiter = Waiter(loop, "ab")
    assert not waiter.is_gone()
    waiter.wait.give_up()
    assert waiter.is_gone()
    assert loop._sleep_s() is None
    end(waiter.tasks["a"])
    assert waiter.answers == []
