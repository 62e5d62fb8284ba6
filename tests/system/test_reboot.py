"""Tasks of an earlier boot of the machine: their ids answer, nothing is invented, nothing runs again."""

import json
import uuid
from pathlib import Path

from levity.states import State
from tests.support.daemon import Daemon
from tests.support.tasks import client_of

OTHER_BOOT = "00000000-0000-4000-8000-000000000000"


def left_behind(state_dir: Path, marker: Path, *, shim: bool) -> str:
    """Make the directory of a task as a power cut leaves it: accepted, perhaps with its shim's name, and no more."""
    task_id = str(uuid.uuid4())
    place = state_dir / "tasks" / task_id
    place.mkdir(parents=True)
    spec = {"version": 1, "id": task_id, "argv": ["touch", str(marker)], "cwd": None, "env": {}, "grace_s": 5}
    (place / "spec.json").write_text(json.dumps(spec | {"accepted_ns": 1, "boot_id": OTHER_BOOT}))
    if shim:
        # Process 1 is there, and is not the shim: nothing may be sent to it.
        facts = {"version": 1, "pid": 1, "start_ticks": 1, "boot_id": OTHER_BOOT, "grace_s": 5, "task_pid": 1}
        (place / "shim.json").write_text(json.dumps(facts | {"started_ns": 2}))
    return task_id


def test_tasks_of_an_earlier_boot_are_over_and_never_run_again(daemon: Daemon, tmp_path: Path) -> None:
    daemon.stop()
    marker = tmp_path / "ran"
    ids = [left_behind(Path(daemon.state_dir), marker, shim=shim) for shim in (False, True)]
    daemon.start()
    with client_of(daemon.address) as client:
        for task_id in ids:
            record = client.submit(["touch", str(marker)], task_id=task_id)
            assert (record.state, record.exit_code, record.signal) == (State.INTERNAL_SERVER_ERROR, None, None)
            assert "restarted" in record.reason
            assert client.query(task_id).raw == record.raw
    assert not marker.exists()
