"""The records of a task's directory: read from every version, written in today's form. Runs in: pytest."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levity.start_options import FIELDS
from levity.states import ENDS, State
from supervisor.spool.records import ExitRecord, RunAs, ShimRecord, Spec
from tests.support.paths import ROOT

UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
NUMBERS = st.integers(0, 2**62)
SECONDS = st.floats(0, 604800) | st.integers(0, 604800)
TEXT = st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
# Keys of a version that is not written yet.
NEWER = st.dictionaries(st.sampled_from(("of_later", "of_much_later", "user", "commands_2")), JSON, max_size=2)

RUN_AS: dict[str, Any] = {
    "uid": 1000,
    "gid": 100,
    "groups": [100, 27],
    "name": "alice",
    "home": "/home/alice",
    "shell": "/bin/sh",
}
# As commit e66b08c wrote them, and so levity 0.1.
SPEC: dict[str, Any] = {
    "id": "3f2a9c1e-0b7d-4e55-9a51-2f0c6d1b8e42",
    "argv": ["ls", "\udcff"],
    "cwd": None,
    "env": {"A": "b"},
    "grace_s": 5.0,
    "accepted_ns": 1_700_000_000_000_000_001,
    "stdin": False,
    "merged": True,
    "log_cap": 2**30,
    "owner": "alice",
    "run_as": RUN_AS,
    "boot_id": "b9de4107-bb40-46f3-9478-ecef1b89c799",
}
SHIM: dict[str, Any] = {
    "pid": 7,
    "start_ticks": 671997,
    "boot_id": SPEC["boot_id"],
    "grace_s": 5.0,
    "log_cap": 2**30,
    "task_pid": 8,
    "started_ns": 10**18,
    "signalled_ns": 10**18 + 1,
}
EXIT: dict[str, Any] = {
    "state": "Finished",
    "exit_code": 143,
    "signal": "SIGTERM",
    "reason": "ended by SIGTERM",
    "pid": 7,
    "task_pid": 8,
    "started_ns": 10**18,
    "signalled_ns": None,
    "grace_s": 5.0,
    "ended_ns": 10**18 + 2,
    "stdout_bytes": 10,
    "stderr_bytes": 0,
    "stored_bytes": 90,
}

specs = st.fixed_dictionaries(
    {
        "id": TEXT,
        "argv": st.lists(TEXT, max_size=3),
        "cwd": st.none() | TEXT,
        "env": st.dictionaries(TEXT, TEXT, max_size=2),
        "grace_s": SECONDS,
        "stdin": st.booleans(),
        "merged": st.booleans(),
        "log_cap": NUMBERS,
        "run_as": st.none() | st.just(RUN_AS),
    },
    optional={"owner": TEXT, "accepted_ns": NUMBERS, "boot_id": TEXT},
)
shims = st.fixed_dictionaries(
    {"pid": NUMBERS, "grace_s": SECONDS, "log_cap": NUMBERS},
    optional={
        "start_ticks": NUMBERS,
        "boot_id": TEXT,
        "commands": st.integers(1, 9),
        "task_pid": NUMBERS,
        "started_ns": NUMBERS,
        "signalled_ns": NUMBERS,
    },
)
exits = st.fixed_dictionaries(
    {
        "state": st.sampled_from([str(state) for state in ENDS]),
        "exit_code": st.none() | st.integers(0, 255),
        "signal": st.none() | TEXT,
        "reason": TEXT,
        "signalled_ns": st.none() | NUMBERS,
        "ended_ns": NUMBERS,
        "stdout_bytes": st.none() | NUMBERS,
        "stderr_bytes": st.none() | NUMBERS,
        "stored_bytes": NUMBERS,
    },
    optional={"pid": NUMBERS, "task_pid": NUMBERS, "started_ns": NUMBERS, "grace_s": SECONDS},
)

CLASSES: list[tuple[type[Spec | ShimRecord | ExitRecord], dict[str, Any], str]] = [
    (Spec, SPEC, "spec"),
    (ShimRecord, SHIM, "shim"),
    (ExitRecord, EXIT, "exit"),
]
each = pytest.mark.parametrize(("kind", "whole", "name"), CLASSES, ids=["spec", "shim", "exit"])


def again(kind: type[Spec | ShimRecord | ExitRecord], record: dict[str, Any]) -> dict[str, Any]:
    made = kind.from_json(record)
    assert made is not None
    return made.to_json()


@each
def test_records_of_levity_0_1_are_read_and_written_as_they_are(
    kind: type[Spec | ShimRecord | ExitRecord], whole: dict[str, Any], name: str
) -> None:
    assert again(kind, whole) == whole, name


@UNHURRIED
@given(specs, shims, exits, NEWER)
def test_nothing_gets_lost_between_two_versions(
    spec: dict[str, Any], shim: dict[str, Any], end: dict[str, Any], newer: dict[str, Any]
) -> None:
    for kind, record in ((Spec, spec), (ShimRecord, shim), (ExitRecord, end)):
        assert again(kind, record | newer) == record | newer
        # On the disk it has its version, which the writer adds.
        assert again(kind, {"version": 1} | record) == record


@given(NEWER)
def test_keys_of_a_newer_levity_in_an_account_stay(newer: dict[str, Any]) -> None:
    made = RunAs.from_json(RUN_AS | newer)
    assert made is not None
    assert made.to_json() == RUN_AS | newer


@each
@given(data=st.data())
@UNHURRIED
def test_anything_is_a_record_or_none(
    kind: type[Spec | ShimRecord | ExitRecord], whole: dict[str, Any], name: str, data: st.DataObject
) -> None:
    assert name
    garbage = data.draw(st.dictionaries(st.sampled_from((*whole, "x")), JSON))
    for record in (garbage, whole | garbage):
        made = kind.from_json(record)
        if made is not None:
            # What was made of it can be written, and is read as the same.
            written = json.loads(json.dumps(made.to_json()))
            assert again(kind, written) == written


@pytest.mark.parametrize("key", ["id", "argv", "cwd", "env", "grace_s"])
def test_a_spec_without_one_of_these_is_none(key: str) -> None:
    assert Spec.from_json({name: value for name, value in SPEC.items() if name != key}) is None


@pytest.mark.parametrize("key", ["pid", "grace_s"])
def test_a_shim_without_one_of_these_is_none(key: str) -> None:
    assert ShimRecord.from_json({name: value for name, value in SHIM.items() if name != key}) is None


@pytest.mark.parametrize("state", [None, "Running", "Lost", "", 1, []])
def test_an_end_must_be_one(state: object) -> None:
    assert ExitRecord.from_json(EXIT | {"state": state}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": 1},
        {"argv": "ls"},
        {"argv": [1]},
        {"cwd": 1},
        {"env": []},
        {"env": {"A": 1}},
        {"grace_s": "5"},
        {"grace_s": None},
        {"stdin": "yes"},
        {"merged": None},
        {"log_cap": -1},
        {"run_as": "alice"},
        {"run_as": {}},
    ],
    ids=str,
)
def test_a_damaged_spec_is_none(change: dict[str, Any]) -> None:
    assert Spec.from_json(SPEC | change) is None


@pytest.mark.parametrize(
    "change",
    [
        {"uid": None},
        {"uid": "0"},
        {"uid": True},
        {"uid": -1},
        {"uid": 2**32 - 1},
        {"gid": None},
        {"groups": None},
        {"groups": [-1]},
        {"groups": [1] * 65537},
        {"home": "home"},
        {"home": None},
        {"home": "/\0"},
        {"name": None},
        {"name": "\ud800"},
        {"shell": 1},
    ],
    ids=lambda change: str(change)[:30],
)
def test_an_account_with_a_piece_missing_is_none_and_so_is_its_spec(change: dict[str, Any]) -> None:
    """It must not become levityd's own user."""
    assert RunAs.from_json(RUN_AS | change) is None
    assert Spec.from_json(SPEC | {"run_as": RUN_AS | change}) is None


# Older versions


def test_the_first_specs_said_no_more_than_this() -> None:
    first = {key: SPEC[key] for key in ("id", "argv", "cwd", "env", "grace_s")}
    spec = Spec.from_json(first)
    assert spec is not None
    assert (spec.owner, spec.run_as, spec.accepted_ns, spec.boot_id) == (None, None, None, None)
    assert (spec.options.stdin, spec.options.merged, spec.options.log_cap) == (False, False, 0)
    assert spec.to_json() == first | {"stdin": False, "merged": False, "log_cap": 0, "run_as": None}


def test_a_shim_of_before_kept_all_output_and_knows_the_old_commands_only() -> None:
    shim = ShimRecord.from_json({"pid": 7, "grace_s": 4})
    assert shim is not None
    assert (shim.shim_pid, shim.grace_s, shim.log_cap, shim.commands) == (7, 4, 0, 0)
    assert (shim.task_pid, shim.started_ns, shim.signalled_ns) == (None, None, None)


def test_before_output_was_rotated_all_of_it_was_stored() -> None:
    old = {key: value for key, value in EXIT.items() if key != "stored_bytes"}
    end = ExitRecord.from_json(old)
    assert end is not None
    assert end.stored_bytes == 10
    assert end.to_json() == old | {"stored_bytes": 10}


@pytest.mark.parametrize("version", ["spool-v1", "spool-v2"])
@each
def test_a_frozen_record_keeps_all_it_said(
    kind: type[Spec | ShimRecord | ExitRecord], whole: dict[str, Any], name: str, version: str
) -> None:
    record = json.loads((ROOT / "tests" / "data" / version / f"{name}.json").read_bytes())
    written = again(kind, record)
    assert {**written, "version": 1} == {**written, **record}
    assert set(written) <= set(whole)


def test_an_end_takes_over_what_the_shim_wrote() -> None:
    end = ExitRecord(State.FINISHED, 0, None, "exited with code 0", 5, shim=ShimRecord.from_json(SHIM))
    assert (end.shim_pid, end.task_pid, end.grace_s) == (7, 8, 5.0)
    assert (end.started_ns, end.signalled_ns) == (SHIM["started_ns"], SHIM["signalled_ns"])
    never = ExitRecord(State.INTERNAL_SERVER_ERROR, None, None, "never started", 5)
    assert not {"pid", "task_pid", "started_ns", "grace_s"} & set(never.to_json())


def test_every_option_that_is_stored_is_a_key_of_a_spec() -> None:
    assert {name for name, field in FIELDS.items() if field.is_stored} <= set(SPEC)
