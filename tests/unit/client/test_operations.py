"""An operation is called the same on each floor: method, command, module, name in the protocol. Runs in: pytest."""

import re
from pathlib import Path

import pytest

from levity import Client
from levity.cli.main import COMMANDS
from tests.support.paths import ROOT

# Modules that are no operation of the protocol: `run`, which combines some, and what operations share.
SHARED = {
    "levity": {"log_params", "run", "start_params"},
    "supervisor/frontend": {"active_senders", "fair_semaphore", "log_params"},
    "supervisor/engine": {"context", "dispatch", "frontend", "lookup", "page_token", "params", "request"},
}
# Input is given with `start --stdin` and `run`, so it has no command of its own.
METHODS = {"stdin": "write_stdin"}
NO_COMMAND = {"stdin"}
# The front-end reads logs itself.
NOT_THE_ENGINES = {"logs"}

METHOD = re.compile(r"(?:task|server)\.([a-z]+)")
DOCUMENTED = re.findall(rf"^### {METHOD.pattern}$", (ROOT / "docs" / "protocol.md").read_text(), re.MULTILINE)


def modules(floor: str) -> set[str]:
    found = {path.stem for path in Path(ROOT, floor, "operations").glob("*.py")} - {"__init__"}
    assert found
    return found


@pytest.mark.parametrize("operation", DOCUMENTED)
def test_an_operation_is_called_the_same_everywhere(operation: str) -> None:
    assert hasattr(Client, METHODS.get(operation, operation))
    assert (operation in COMMANDS) is (operation not in NO_COMMAND)
    assert (operation in modules("supervisor/engine")) is (operation not in NOT_THE_ENGINES)


@pytest.mark.parametrize("floor", SHARED)
def test_a_module_among_operations_is_one_or_is_known_to_be_none(floor: str) -> None:
    assert modules(floor) - SHARED[floor] <= set(DOCUMENTED)


def test_the_front_end_serves_what_is_documented() -> None:
    served = (ROOT / "supervisor" / "frontend" / "session.py").read_text()
    assert set(re.findall(rf'^ +"{METHOD.pattern}": ', served, re.MULTILINE)) == set(DOCUMENTED)
