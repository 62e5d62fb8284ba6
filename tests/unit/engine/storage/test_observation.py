"""What the engine makes of a task's directory."""

import itertools

import pytest

from supervisor.engine.storage.judge import Finding, judge
from supervisor.engine.storage.task_directory import Observation
from tests.support.records import an_end, shim_record

NAMED = shim_record()
STARTED = shim_record(task_pid=8)
ENDED = an_end()


@pytest.mark.parametrize(
    ("seen", "finding"),
    [
        (Observation(0, None, None), Finding.NEVER_STARTED),
        (Observation(7, None, None), Finding.STARTING),
        (Observation(7, NAMED, None), Finding.STARTING),
        (Observation(7, STARTED, None), Finding.RUNNING),
        (Observation(0, STARTED, None), Finding.LOST),
        # It may have executed the command and been killed right after.
        (Observation(0, NAMED, None), Finding.LOST),
        (Observation(0, STARTED, ENDED), Finding.OVER),
        (Observation(0, None, ENDED), Finding.OVER),
    ],
)
def test_what_is_seen_means(seen: Observation, finding: Finding) -> None:
    assert judge(seen) is finding


def test_every_observation_has_a_meaning_and_an_exit_record_ends_all_doubt() -> None:
    for holder, shim, ended in itertools.product((0, 7), (None, NAMED, STARTED), (None, ENDED)):
        finding = judge(Observation(holder, shim, ended))
        assert (finding is Finding.OVER) == (ended is not None)
        assert not (finding is Finding.LOST and holder)
