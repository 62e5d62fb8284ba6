"""What a task is given: environment, descriptors, directory, umask, signals, limits; and nothing of levityd's own."""

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from levity import Client
from tests.support.daemon import Daemon
from tests.support.launch import under_shell
from tests.support.paths import levityd_command
from tests.support.processes import MARK
from tests.support.tasks import client_of, ended, output, sh

# Tells everything about itself. Run by an interpreter without site, which would open files.
PROBE = """
import json, os, resource, signal
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "environment": {os.fsdecode(name): os.fsdecode(value) for name, value in os.environb.items()},
    "descriptors": {name: os.readlink("/proc/self/fd/" + name) for name in ("0", "1", "2")},
    "umask": status["Umask"], "blocked": status["SigBlk"], "ignored": status["SigIgn"], "caught": status["SigCgt"],
    "cwd": os.getcwd(), "session": os.getsid(0), "group": os.getpgid(0), "pid": os.getpid(), "nice": os.nice(0),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_NOFILE", "RLIMIT_CORE")},
    "oom": open("/proc/self/oom_score_adj").read().strip(),
}))
"""
Make = Callable[..., Daemon]
# What glibc keeps to itself (signals 32 and 33): its posix_spawn, which make uses, leaves them ignored, and no program
# can change that through glibc.
GLIBC_OWN = 0b11 << 31
# Python itself ignores SIGPIPE and SIGXFSZ.
PYTHON_IGNORES = sum(1 << (number - 1) for number in (signal.SIGPIPE, signal.SIGXFSZ))


def probe(daemon: Daemon, **options: Any) -> dict[str, Any]:
    """Run the probe as a task and return what it tells."""
    with client_of(daemon.address) as client:
        task_id = client.start([sys.executable, "-I", "-S", "-c", PROBE], **options)
        assert ended(client, task_id).exit_code == 0, output(client, task_id)
        told = json.loads(output(client, task_id)[0])
        assert isinstance(told, dict)
        return told | {"id": task_id}


def run(client: Client, script: str) -> str:
    task_id = sh(client, script)
    ended(client, task_id)
    return output(client, task_id)[0].decode()


def test_the_environment_is_levityds_own_without_levitys_names(
    make_daemon: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("LC_", "LANG")):
            monkeypatch.delenv(name)
    own = {"LEVITY_STATE_DIR": "/nowhere", "LEVITY_ADDR": "x", "LEVITY_OTHER": "y", "KEPT": "a b", "EMPTY": ""}
    daemon = make_daemon(env=own).start()
    told = probe(daemon, env={"ADDED": "1", "KEPT": "changed"})
    # Set by the interpreter that runs the probe: see the next test.
    environment = told["environment"]
    environment.pop("LC_CTYPE", None)
    wanted = {name: value for name, value in os.environ.items() if not name.startswith(("LEVITY_", "PYTEST_"))}
    wanted |= {"KEPT": "changed", "EMPTY": "", "ADDED": "1", "LEVITY_TASK_ID": told["id"], MARK: daemon.mark}
    assert environment == wanted


@pytest.mark.parametrize(
    "locale",
    [
        pytest.param({}, id="no locale"),
        pytest.param({"LANG": "C"}, id="LANG=C"),
        pytest.param({"LC_ALL": "C"}, id="LC_ALL=C"),
        pytest.param({"LANG": "de_DE.UTF-8", "LC_CTYPE": "C"}, id="LC_CTYPE=C in another LANG"),
    ],
)
def test_no_interpreter_on_the_way_adds_to_the_environment(
    make_daemon: Make, locale: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEP 538: Python sets LC_CTYPE in its environment where the locale is C, and its children inherit that."""
    for name in list(os.environ):
        if name.startswith(("LC_", "LANG")):
            monkeypatch.delenv(name)
    with client_of(make_daemon(env=locale).start().address) as client:
        lines = run(client, "env").splitlines()
    assert dict(line.split("=", 1) for line in lines if line.startswith(("LC_", "LANG"))) == locale


def test_a_task_cannot_be_given_another_id(shared_daemon: Daemon) -> None:
    told = probe(shared_daemon, env={"LEVITY_TASK_ID": "forged", "LEVITY_MINE": "kept"})
    assert told["environment"]["LEVITY_TASK_ID"] == told["id"]
    assert told["environment"]["LEVITY_MINE"] == "kept"


def test_exactly_three_descriptors(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        for _ in range(3):
            # ls itself opens one more, for the directory.
            assert run(client, "exec ls /proc/self/fd").split() == ["0", "1", "2", "3"]
        told = run(client, "ls -l /proc/$$/fd").splitlines()[1:]
        assert len(told) == 3
    told_links = probe(shared_daemon)["descriptors"]
    assert told_links["0"] == "/dev/null"
    assert told_links["1"].startswith("pipe:")
    assert told_links["2"].startswith("pipe:")
    assert told_links["1"] != told_links["2"]


def test_stdin_is_at_its_end(shared_daemon: Daemon) -> None:
    with client_of(shared_daemon.address) as client:
        assert run(client, "wc -c") == "0\n"


@pytest.mark.parametrize(
    "prelude",
    [
        pytest.param("", id="as ever"),
        pytest.param("umask 0777;", id="a strict umask"),
        pytest.param("trap '' TERM INT HUP PIPE USR1 CHLD;", id="ignored signals"),
        pytest.param("exec 7</etc/passwd;", id="an open descriptor"),
    ],
)
def test_signals_umask_and_descriptors_are_defaults_whatever_levityd_inherits(make_daemon: Make, prelude: str) -> None:
    daemon = make_daemon(command=under_shell(prelude)).start()
    told = probe(daemon)
    assert told["umask"] == "0022"
    assert int(told["blocked"], 16) == 0
    assert int(told["ignored"], 16) & ~GLIBC_OWN == PYTHON_IGNORES
    with client_of(daemon.address) as client:
        masks = run(client, "grep -E '^Sig(Blk|Ign)' /proc/self/status").split()[1::2]
        assert [int(mask, 16) & ~GLIBC_OWN for mask in masks] == [0, 0]
        assert run(client, "exec ls /proc/self/fd").split() == ["0", "1", "2", "3"]


def test_a_mask_of_blocked_signals_does_not_reach_a_task(make_daemon: Make) -> None:
    code = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    daemon = make_daemon(command=[shutil.which("python3") or "python3", "-c", code, *levityd_command()]).start()
    with client_of(daemon.address) as client:
        assert int(run(client, "grep ^SigBlk /proc/self/status").split()[1], 16) == 0


def test_a_task_leads_a_group_and_has_no_terminal(shared_daemon: Daemon) -> None:
    told = probe(shared_daemon)
    assert told["group"] == told["pid"]
    assert told["session"] not in (os.getsid(0), told["pid"])
    with client_of(shared_daemon.address) as client:
        assert run(client, "exec 2>&1; (: < /dev/tty) || echo none").endswith("none\n")


def test_limits_niceness_and_score_are_those_that_levityd_was_started_with(make_daemon: Make) -> None:
    """What levityd changes for itself (descriptors, memory score) is not the task's."""
    soft = 300
    daemon = make_daemon(command=under_shell(f"ulimit -S -n {soft};")).start()
    told = probe(daemon)
    assert told["limits"]["RLIMIT_NOFILE"] == [soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]]
    assert told["limits"]["RLIMIT_CORE"] == list(resource.getrlimit(resource.RLIMIT_CORE))
    assert told["oom"] == Path("/proc/self/oom_score_adj").read_text().strip()
    assert told["nice"] == os.nice(0)


def test_the_working_directory(shared_daemon: Daemon, tmp_path: Path) -> None:
    assert probe(shared_daemon, cwd=str(tmp_path))["cwd"] == str(tmp_path)
    # Not levityd's own, which is its state directory.
    assert probe(shared_daemon)["cwd"] != str(shared_daemon.state_dir)


def test_a_command_is_found_by_the_tasks_own_path(shared_daemon: Daemon, tmp_path: Path) -> None:
    program = tmp_path / "own-program"
    program.write_text("#!/bin/sh\necho own\n")
    program.chmod(0o755)
    with client_of(shared_daemon.address) as client:
        task_id = client.start(["own-program"], env={"PATH": f"/nowhere:{tmp_path}:/bin"})
        ended(client, task_id)
        assert output(client, task_id)[0] == b"own\n"
