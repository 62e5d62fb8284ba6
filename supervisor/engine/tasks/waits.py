"""Wait for the end of tasks. Runs in: engine. Owns: while it waits, its place in each task's `ended`."""

from levity.errors import LevityError
from supervisor.engine.loop import Loop, Timer
from supervisor.engine.tasks.live_task import Answer, LiveTask
from supervisor.engine.tasks.record import BRIEF, make_brief
from supervisor.spool.records import JsonObject

__all__ = ["Wait"]


class Wait:
    """One request that is answered once its tasks are over; afterwards no task knows of it.

    `over` holds the briefs of the tasks that are over, `live` the others. `ids` is the order of the answer, and may
    name a task twice. `one_is_enough`: the first end of any of them ends the wait.
    """

    def __init__(
        self,
        ids: list[str],
        over: dict[str, JsonObject],
        live: dict[str, LiveTask],
        *,
        one_is_enough: bool,
        answer: Answer,
    ) -> None:
        self._ids = ids
        self._over = over
        self._live = live
        self._one_is_enough = one_is_enough
        self._answer = answer
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<Wait for {len(self._live)} of {len(self._over) + len(self._live)}>"

    def begin(self, loop: Loop, within_s: float) -> None:
        """Answer now, or as soon as enough tasks are over, in `within_s` seconds at the latest."""
        if self._is_done:
            self._finish()
            return
        for task in self._live.values():
            task.ended[self._on_end] = None
        self._timer = loop.later(within_s, self._finish)

    def give_up(self) -> None:
        """Forget the wait: the client is answered already, or has left."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._live.values():
            task.ended.pop(self._on_end, None)

    @property
    def _is_done(self) -> bool:
        return not self._live or (self._one_is_enough and bool(self._over))

    def _on_end(self, result: JsonObject | LevityError) -> None:
        """Note that a task is over. An error says that its command could not be executed, so there is no task."""
        if isinstance(result, LevityError):
            self.give_up()
            self._answer(result)
            return
        self._over[result["id"]] = {key: result[key] for key in BRIEF}
        del self._live[result["id"]]
        if self._is_done:
            self._finish()

    def _finish(self) -> None:
        self.give_up()
        tasks = [
            self._over.get(task_id) or make_brief(task_id, self._live[task_id].state, None) for task_id in self._ids
        ]
        self._answer({"tasks": tasks, "done": self._is_done})
