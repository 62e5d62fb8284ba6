"""Records of tasks for tests, each with what is not said made up. Runs in: pytest."""

from typing import Any

from levity.states import State
from supervisor.spool.records import ExitRecord, ShimRecord, Spec

__all__ = ["an_end", "shim_record", "spec"]

ID = "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42"


def spec(**said: Any) -> Spec:
    """Return a spec with these keys, as spec.json has them."""
    made = Spec.from_json({"id": ID, "argv": ["ls"], "cwd": None, "env": {}, "grace_s": 5.0} | said)
    assert made is not None
    return made


def shim_record(**said: Any) -> ShimRecord:
    """Return a shim's record with these keys, as shim.json has them."""
    made = ShimRecord.from_json({"pid": 7, "grace_s": 5.0} | said)
    assert made is not None
    return made


def an_end(**said: Any) -> ExitRecord:
    """Return an exit record with these keys, as exit.json has them."""
    usual = {"state": State.FINISHED, "exit_code": 0, "signal": None, "reason": "", "ended_ns": 1}
    made = ExitRecord.from_json(usual | said)
    assert made is not None
    return made
