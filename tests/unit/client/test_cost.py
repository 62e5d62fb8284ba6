"""Which modules the client loads: imports take most of a command's time. Runs in: pytest."""

import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from levity.protocol.frames import STDOUT
from tests.support.fake_server import FakeServer, answering, record, serving_log
from tests.support.fake_task import FakeTask
from tests.support.paths import ROOT, clean_environment

# dataclasses alone takes as long as two bare interpreters.
SLOW = frozenset(
    (
        "argparse",
        "asyncio",
        "contextlib",
        "dataclasses",
        "datetime",
        "inspect",
        "logging",
        "multiprocessing",
        "pathlib",
        "psutil",
        "selectors",
        "shlex",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "tomllib",
        "typing",
        "uuid",
    )
)
# `list` quotes with shlex; a millisecond does not matter there.
ALLOWED = {"list": {"shlex"}}

DUMP = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from levity.cli.main import main
status = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(status)
"""


def modules_of(*arguments: str, env: Mapping[str, str] = MappingProxyType({})) -> set[str]:
    # -S: site may load anything, depending on what else is installed.
    command = [sys.executable, "-I", "-S", "-c", DUMP, *arguments]
    done = subprocess.run(command, capture_output=True, env={**clean_environment(), **env}, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.decode().split())


@pytest.mark.parametrize("command", ["query 3f2a", "start ls", "signal 3f2a", "info", "list", "help", "--version"])
def test_no_command_loads_a_slow_module(command: str) -> None:
    arguments = command.split()
    answer = record() | {"tasks": [], "next": None}
    with FakeServer(answering(answer)) as server:
        loaded = modules_of("-a", server.address, *arguments)
    assert not loaded & (SLOW - ALLOWED.get(arguments[0], set()))


@pytest.mark.parametrize("options", ["3f2a", "3f2a 9c1e", "-f -t --prefix -n 5 --since 10m 3f2a"])
def test_logs_load_no_slow_module(options: str) -> None:
    with FakeServer(serving_log([(STDOUT, b"abc")])) as server:
        assert not modules_of("-a", server.address, "logs", *options.split()) & SLOW


def test_wait_loads_no_slow_module() -> None:
    with FakeServer(FakeTask()) as server:
        assert not modules_of("-a", server.address, "wait", "3f2a") & SLOW


# What a query at a unix socket needs.
QUERY = frozenset(
    {
        "levity",
        "levity.addresses",
        "levity.cli",
        "levity.cli.main",
        "levity.cli.options",
        "levity.cli.output",
        "levity.cli.query",
        "levity.client",
        "levity.errors",
        "levity.protocol",
        "levity.protocol.frames",
        "levity.protocol.messages",
        "levity.states",
        "levity.task",
        "levity.transport",
        "levity.transport.connection",
        "levity.transport.rpc",
    }
)


def ours(loaded: set[str]) -> set[str]:
    return {name for name in loaded if name.partition(".")[0] == "levity"}


def test_a_query_loads_only_what_it_runs() -> None:
    with FakeServer(answering(record())) as server:
        loaded = modules_of("-a", server.address, "query", "3f2a")
    assert ours(loaded) == QUERY
    # This codec loads stringprep and unicodedata: 5 ms.
    assert "encodings.idna" not in loaded


def test_proving_a_token_costs_little_more() -> None:
    with FakeServer(answering(record()), host="127.0.0.1") as server:
        loaded = modules_of("-a", server.address, "query", "3f2a", env=server.environ)
    assert ours(loaded) == QUERY | {
        "levity.transport.token_login",
        "levity.transport.credentials",
        "levity.channel_binding",
        "levity.protocol.token_proof",
    }
    # C modules have what is needed of these.
    assert not loaded & (SLOW | {"encodings.idna", "getpass", "hashlib", "hmac", "pwd", "secrets"})


def test_the_package_itself_loads_nothing() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import levity; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, timeout=30, check=True)
    assert [name for name in done.stdout.decode().split() if name.startswith("levity")] == ["levity"]
