"""The phases of a task: the tables are total and never go back, and the engine does what they say. Runs in: pytest."""

import heapq
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from levity.channel_binding import boot_id
from levity.errors import LevityError
from levity.states import State, may_move
from supervisor.engine.loop import Loop, Timer
from supervisor.engine.storage.observation import Finding, Observation
from supervisor.engine.storage.registry import Registry, Row
from supervisor.engine.tasks import dead_shims
from supervisor.engine.tasks.lifecycle import Tasks
from supervisor.engine.tasks.live_task import Adopted, LiveTask, Running, Spawning, Starting
from supervisor.engine.tasks.phase import MOVES, STEPS, Phase, Step, ended, lost
from supervisor.spool.layout import NO_SPACE_BYTE
from supervisor.spool.start_failure import EXEC, StartFailure
from supervisor.spool.zygote_messages import Gone
from tests.support.records import ID, an_end, shim_record, spec

LIVE = [phase for phase in Phase if not phase.state.is_end]
LOST = [Phase.LOST_STARTING, Phase.LOST_RUNNING, Phase.LOST_STOPPING]
UNDECIDED = [phase for phase in LIVE if phase not in LOST]
UNSTARTED = [phase for phase in UNDECIDED if phase.state is State.NOT_STARTED]

# The tables


def test_every_phase_has_a_row_and_every_row_all_findings() -> None:
    assert set(MOVES) == set(STEPS) == set(Phase)
    assert all(set(row) == set(Finding) for row in STEPS.values())


def test_the_names_that_clients_see() -> None:
    assert {phase.shown for phase in Phase} == {
        "adopted",
        "unclaimed",
        "spawning",
        "starting",
        "running",
        "stopping",
        "lost",
        "ended",
    }
    assert {phase.shown for phase in Phase if phase.state.is_end} == {"ended"}


def test_every_state_is_shown_by_a_phase_and_an_end_by_one() -> None:
    assert {phase.state for phase in Phase} == set(State)
    for state in State:
        if state.is_end:
            assert [phase for phase in Phase if phase.state is state] == [ended(state)]


@pytest.mark.parametrize(("old", "new"), list(itertools.product(Phase, Phase)))
def test_no_move_takes_the_state_back(old: Phase, new: Phase) -> None:
    if new in MOVES[old]:
        assert old.state is new.state or may_move(old.state, new.state)
    if old.state.is_end:
        assert not MOVES[old]
    elif old in LOST:
        assert MOVES[old] == {Phase.FAILED}
    elif new.state.is_end:
        assert new in MOVES[old]


@pytest.mark.parametrize("phase", UNDECIDED)
@pytest.mark.parametrize("seen", [None, {}, {"task_pid": 8}, {"task_pid": 8, "signalled_ns": 5}])
def test_a_loss_takes_the_state_back_neither(phase: Phase, seen: dict[str, Any] | None) -> None:
    after = lost(phase, None if seen is None else shim_record(**seen))
    assert after in LOST
    assert after in MOVES[phase]


# The engine


class FakeLoop:
    """Has timers only; `run` calls what is due within that time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay_s, call)
        heapq.heappush(self._due, (timer.when, next(self._order), timer))
        return timer

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._due and self._due[0][0] <= until:
            self.now, _order, timer = heapq.heappop(self._due)
            if timer.call is not None:
                timer.call()
        self.now = until

    def watch(self, _fd: int, _call: object) -> None:
        """Nothing is ever ready."""

    def forget(self, _fd: int) -> None:
        """Nothing is watched."""


class FakeRegistry:
    """Keeps the last that was put."""

    def __init__(self) -> None:
        self.rows: dict[str, Row | None] = {}

    def put(self, row: Row, *, is_new: bool = False) -> None:  # noqa: ARG002 - the registry's own signature
        self.rows[row.id] = row

    def remove(self, task_id: str) -> None:
        self.rows[task_id] = None


class House:
    """The live tasks with one of them, ID, and what they are told to see of it."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.registry = FakeRegistry()
        self.asked: list[str] = []
        self.seen: Observation | OSError = Observation(0, None, None)
        self.answers: list[dict[str, Any] | LevityError] = []
        self.tasks = Tasks(
            cast("Loop", self.loop),
            cast("Registry", self.registry),
            self.asked.append,
            lambda _urgent: None,
            observe=self._observe,
        )

    def _observe(self, _task_id: str) -> Observation:
        if isinstance(self.seen, OSError):
            raise self.seen
        return self.seen

    def see(self, seen: Observation | OSError, status: int | None = None) -> None:
        """Have the task looked at: after a hint, or because a shim left with this status."""
        self.seen = seen
        if status is None:
            self.tasks.look(ID)
        else:
            self.tasks.shim_gone(Gone(ID, status, StartFailure(EXEC, status) if status > 0 else None))

    @property
    def task(self) -> LiveTask:
        return self.tasks.live[ID]

    @property
    def phase(self) -> Phase | None:
        """The task's phase; None once the engine has nothing more to do with it."""
        return self.tasks.live[ID].phase if ID in self.tasks.live else None


# A pid that no process has: nothing is signalled, and watching fails.
NO_PID = 2**22 + 1
TAKEN = Observation(NO_PID, None, None)
FREE = Observation(0, None, None)
RUNS = Observation(NO_PID, shim_record(pid=NO_PID, task_pid=NO_PID, started_ns=1), None)
STOPS = Observation(NO_PID, shim_record(pid=NO_PID, task_pid=NO_PID, started_ns=1, signalled_ns=2), None)
BOOT = boot_id()
GONE = Observation(0, shim_record(pid=NO_PID, boot_id=BOOT), None)
GONE_RUNNING = Observation(0, shim_record(pid=NO_PID, task_pid=NO_PID, boot_id=BOOT), None)
GONE_STOPPING = Observation(0, shim_record(pid=NO_PID, task_pid=NO_PID, boot_id=BOOT, signalled_ns=2), None)
UNREADABLE = OSError(24, "Too many open files")
REMOVED = FileNotFoundError(2, "No such file or directory")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    # No process is in a tree here, and a look at all of the machine takes milliseconds.
    monkeypatch.setattr(dead_shims, "kill_trees", lambda _mark, _trees: set())
    return House()


def start(house: House) -> None:
    house.tasks.start(spec(boot_id=BOOT), house.answers.append)


def adopt(house: House, seen: Observation | OSError) -> None:
    os.mkdir(f"tasks/{ID}")
    house.seen = seen
    house.tasks.adopt(spec(boot_id=BOOT))


def block_the_end(_house: House) -> None:
    """Have the disk refuse the exit record, so that a lost task stays lost."""
    os.mkdir(f"tasks/{ID}/exit.json")


def enter(house: House, phase: Phase) -> None:
    """Bring the task into this phase as it comes there in life."""
    if phase is Phase.ADOPTED:
        adopt(house, UNREADABLE)
    elif phase is Phase.UNCLAIMED:
        adopt(house, FREE)
    else:
        start(house)
    if phase is Phase.STARTING:
        house.see(TAKEN)
    elif phase in (Phase.RUNNING, Phase.LOST_RUNNING):
        house.see(RUNS)
    elif phase in (Phase.STOPPING, Phase.LOST_STOPPING):
        house.see(STOPS)
    if phase in LOST:
        block_the_end(house)
        house.see(GONE)
    house.answers.clear()
    assert house.phase is phase


def claim(house: House) -> None:
    house.tasks.start_again(house.task, house.answers.append)


def signal(house: House) -> None:
    house.tasks.signal(house.task, 0.5, house.answers.append)


def ends(state: State) -> Callable[[House], None]:
    return lambda house: house.see(Observation(0, None, an_end(state=state)))


EVENTS: dict[str, Callable[[House], None]] = {
    "nothing": lambda house: house.see(UNREADABLE),
    "taken": lambda house: house.see(TAKEN),
    "runs": lambda house: house.see(RUNS),
    "stops": lambda house: house.see(STOPS),
    "free": lambda house: house.see(FREE),
    "free, and its shim left": lambda house: house.see(FREE, status=0),
    "free, and its shim was killed": lambda house: house.see(FREE, status=-9),
    "refused": lambda house: house.see(FREE, status=2),
    "lost": lambda house: house.see(GONE),
    "lost running": lambda house: house.see(GONE_RUNNING),
    "lost stopping": lambda house: house.see(GONE_STOPPING),
    "removed": lambda house: house.see(REMOVED),
    "finished": ends(State.FINISHED),
    "killed": ends(State.BRUTALLY_KILLED),
    "failed": ends(State.INTERNAL_SERVER_ERROR),
    "claimed": claim,
    "signalled": signal,
    "a minute passes": lambda house: house.loop.run(61),
    "the zygote is replaced": lambda house: house.tasks.ask_again(),
}

SAME = "same"
P = Phase
# What follows; None: the task is over, or gone. A lost task's record is refused by the disk here.
_ENDING: dict[str, Phase | str | None] = dict.fromkeys(("finished", "killed", "failed"))
_UNEXECUTED: dict[str, Phase | str | None] = {
    "nothing": SAME,
    "taken": P.STARTING,
    "runs": P.RUNNING,
    "stops": P.STOPPING,
    "lost": P.LOST_STARTING,
    "lost running": P.LOST_RUNNING,
    "lost stopping": P.LOST_STOPPING,
    "removed": P.LOST_STARTING,
    "signalled": SAME,
    **_ENDING,
}
EXPECTED: dict[Phase, dict[str, Phase | str | None]] = {
    P.ADOPTED: {
        **_UNEXECUTED,
        "free": P.UNCLAIMED,
        "free, and its shim left": P.UNCLAIMED,
        "free, and its shim was killed": P.UNCLAIMED,
        "refused": P.UNCLAIMED,
        "claimed": SAME,
        "a minute passes": SAME,
        "the zygote is replaced": SAME,
    },
    P.UNCLAIMED: {
        **_UNEXECUTED,
        "free": SAME,
        "free, and its shim left": SAME,
        "free, and its shim was killed": SAME,
        "refused": SAME,
        "claimed": P.SPAWNING,
        "a minute passes": P.LOST_STARTING,
        "the zygote is replaced": SAME,
    },
    P.SPAWNING: {
        **_UNEXECUTED,
        "free": SAME,
        "free, and its shim left": SAME,
        "free, and its shim was killed": SAME,
        "refused": None,
        "claimed": SAME,
        "a minute passes": SAME,
        "the zygote is replaced": SAME,
    },
    P.STARTING: {
        **_UNEXECUTED,
        "free": P.SPAWNING,
        "free, and its shim left": P.SPAWNING,
        "free, and its shim was killed": P.SPAWNING,
        "refused": None,
        "claimed": SAME,
        "a minute passes": SAME,
        "the zygote is replaced": SAME,
    },
    P.RUNNING: {
        **dict.fromkeys(EVENTS, SAME),
        "stops": P.STOPPING,
        "free": P.LOST_RUNNING,
        "free, and its shim left": P.LOST_RUNNING,
        "free, and its shim was killed": P.LOST_RUNNING,
        "refused": P.LOST_RUNNING,
        "lost": P.LOST_RUNNING,
        "lost running": P.LOST_RUNNING,
        "lost stopping": P.LOST_STOPPING,
        "removed": P.LOST_RUNNING,
        **_ENDING,
    },
    P.STOPPING: {
        **dict.fromkeys(EVENTS, SAME),
        "free": P.LOST_STOPPING,
        "free, and its shim left": P.LOST_STOPPING,
        "free, and its shim was killed": P.LOST_STOPPING,
        "refused": P.LOST_STOPPING,
        "lost": P.LOST_STOPPING,
        "lost running": P.LOST_STOPPING,
        "lost stopping": P.LOST_STOPPING,
        "removed": P.LOST_STOPPING,
        **_ENDING,
    },
    **{phase: dict.fromkeys(EVENTS, SAME) for phase in LOST},
}


def test_the_walk_is_over_the_whole_product() -> None:
    assert set(EXPECTED) == set(LIVE)
    assert all(set(row) == set(EVENTS) for row in EXPECTED.values())


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(LIVE, EVENTS)), ids=str)
def test_each_event_leads_each_phase_to_the_expected_one(house: House, phase: Phase, event: str) -> None:
    enter(house, phase)
    if phase not in LOST:
        block_the_end(house)
    state = phase.state
    EVENTS[event](house)
    expected = EXPECTED[phase][event]
    assert house.phase is (phase if expected is SAME else expected)
    if house.phase is not None:
        record = house.task.record()
        assert (record["state"], record["phase"]) == (house.phase.state, house.phase.shown)
        assert record["state"] is state or may_move(state, record["state"])
    elif event == "refused":
        assert house.registry.rows[ID] is None
    else:
        row = house.registry.rows[ID]
        assert row is not None
        assert row.outcome is not None


@pytest.mark.parametrize("event", ["finished", "killed", "failed"])
@pytest.mark.parametrize("phase", UNDECIDED)
def test_an_end_answers_all_who_wait_once(house: House, phase: Phase, event: str) -> None:
    enter(house, phase)
    ends: list[object] = []
    house.task.ended[ends.append] = None
    signal(house)
    claim(house)
    told = len(house.answers)
    EVENTS[event](house)
    # The first start, which `enter` sent for a client; the one that was sent again; the signal.
    waited = {Phase.ADOPTED: 2, Phase.UNCLAIMED: 2, Phase.SPAWNING: 3, Phase.STARTING: 3}.get(phase, 1)
    assert len(house.answers) - told == waited
    assert len(ends) == 1
    house.loop.run(100)
    assert len(house.answers) - told == waited


# Its data


def test_a_task_is_asked_for_again_five_times_at_most(house: House) -> None:
    start(house)
    for tries in range(1, 5):
        assert isinstance(house.task.data, Spawning)
        assert (house.task.data.tries, len(house.asked)) == (tries, tries)
        house.see(FREE, status=0)
    house.see(FREE, status=-9)
    assert house.phase is None
    (error,) = house.answers
    assert isinstance(error, LevityError)
    assert len(house.asked) == 5
    assert house.registry.rows[ID] is None


def test_a_shim_that_is_on_its_way_is_not_asked_for_again(house: House) -> None:
    start(house)
    house.see(FREE)
    house.see(TAKEN)
    house.see(FREE)
    assert house.asked == [ID]
    # It left, so it is not on its way any more.
    house.see(FREE, status=0)
    assert house.asked == [ID, ID]


def test_a_zygote_that_is_replaced_is_asked_for_what_was_on_its_way(house: House) -> None:
    start(house)
    house.tasks.ask_again()
    assert house.asked == [ID, ID]
    house.see(RUNS)
    house.tasks.ask_again()
    assert house.asked == [ID, ID]


def test_signals_that_came_too_early_are_sent_once_it_runs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    monkeypatch.setattr(house.tasks, "_send_signal", lambda _task, grace_s: sent.append(grace_s))
    start(house)
    signal(house)
    house.see(TAKEN)
    signal(house)
    assert (sent, house.answers) == ([], [])
    house.see(RUNS)
    assert sent == [0.5, 0.5]
    # The start is answered; the signals are when the shim has confirmed one.
    assert [answer["phase"] for answer in house.answers if isinstance(answer, dict)] == ["running"]
    house.see(STOPS)
    assert len(house.answers) == 3
    assert isinstance(house.answers[-1], dict)
    assert house.answers[-1]["state"] is State.SIGNALLED


def test_a_signal_that_is_not_confirmed_is_answered_after_a_second(house: House) -> None:
    enter(house, Phase.RUNNING)
    signal(house)
    house.loop.run(0.9)
    assert house.answers == []
    house.loop.run(0.2)
    assert len(house.answers) == 1


def test_a_claim_is_answered_like_the_first_start(house: House) -> None:
    enter(house, Phase.UNCLAIMED)
    claim(house)
    assert house.asked == [ID]
    house.see(RUNS)
    (answer,) = house.answers
    assert isinstance(answer, dict)
    assert answer["phase"] == "running"
    # And it is not given up for having been unclaimed.
    house.loop.run(100)
    assert house.phase is Phase.RUNNING


def test_a_task_of_another_boot_is_not_started(house: House) -> None:
    os.mkdir(f"tasks/{ID}")
    house.tasks.adopt(spec(boot_id="another"))
    row = house.registry.rows[ID]
    assert row is not None
    assert row.outcome is not None
    assert "machine was restarted" in row.outcome.reason
    assert house.asked == []


def test_what_a_task_waits_for_is_known_while_it_runs(house: House) -> None:
    enter(house, Phase.RUNNING)
    assert isinstance(RUNS, Observation)
    house.see(Observation(NO_PID, RUNS.shim, None, NO_SPACE_BYTE))
    assert house.tasks.is_out_of_space
    assert "no space" in house.task.record()["waiting"]
    house.see(RUNS)
    assert not house.tasks.is_out_of_space


def test_a_task_whose_record_cannot_be_read_any_more_is_not_started_again(house: House) -> None:
    enter(house, Phase.RUNNING)
    house.see(FREE)
    assert house.asked == [ID]
    row = house.registry.rows[ID]
    assert row is not None
    assert row.outcome is not None
    assert "monitor lost" in row.outcome.reason


def test_an_illegal_move_is_a_bug() -> None:
    task = LiveTask(spec(), Running(shim_record(), 0, []))
    for data in (Adopted([], []), Spawning([], [], 1, 1), Starting([], [], 1, 1)):
        with pytest.raises(AssertionError):
            task.become(data)
    assert task.phase is Phase.RUNNING


def test_no_step_is_left_over() -> None:
    assert {step for row in STEPS.values() for step in row.values()} == set(Step)
