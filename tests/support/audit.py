"""An audit for a test, in a directory of its own, and a reader of what it wrote. Owns: the audits that were made."""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.engine.access.audit_log import Audit

__all__ = ["NOW_NS", "Clock", "Make", "full_at", "lines", "raw", "seqs", "start"]

# 2026-11-24T13:17:45.000000042Z
NOW_NS = 1_795_526_265 * 10**9 + 42


class Clock:
    """Nanoseconds that pass when they are told to."""

    def __init__(self) -> None:
        self.ns = 5 * 10**9

    def __call__(self) -> int:
        return self.ns


Make = Callable[..., Audit]


@pytest.fixture
def audit_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def audit_clock() -> Clock:
    return Clock()


@pytest.fixture
def make_audit(audit_clock: Clock) -> Iterator[Make]:
    made: list[Audit] = []

    def make_one(**options: Any) -> Audit:
        made.append(Audit(now=lambda: NOW_NS, monotonic=audit_clock, **options))
        return made[-1]

    yield make_one
    for audit in made:
        audit.close()


def start(audit: Audit, **changes: Any) -> None:
    event: dict[str, Any] = {"peer": "127.0.0.1:4000", "user": "alice", "role": "user", "decision": "allowed"}
    audit.write("task.start", **event | changes)


def raw(path: str = "audit.log") -> list[bytes]:
    """Return the lines, all of which are whole."""
    data = Path(path).read_bytes()
    assert not data or data.endswith(b"\n")
    return data.splitlines()


def lines(path: str = "audit.log") -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw(path)]


def seqs(path: str = "audit.log") -> list[int]:
    return [line["seq"] for line in lines(path)]


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file grow beyond `size`: a write that does not fit is cut short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
