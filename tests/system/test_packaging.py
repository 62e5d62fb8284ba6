"""levity as it is installed: by pip, beside PyPI's supervisord, and the launchers that make writes."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from contrib.build.launchers import SHEBANG_LIMIT, first_lines
from contrib.build.requirements import requirements
from levity.version import __version__
from tests.support.cli import levity
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.paths import ROOT, clean_environment

# A virtual environment, and packages out of a registry.
pytestmark = pytest.mark.timeout(240)

SUPERVISORD_CONF = """\
[supervisord]
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
[unix_http_server]
file={directory}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{directory}/supervisor.sock
[program:napper]
command=sleep 600
startsecs=0
"""


def run(*argv: str | Path, timeout_s: float = 200) -> str:
    """Run a command that must succeed, away from the checkout, and return its stdout."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=clean_environment(),
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, f"{argv} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged: pip builds inside the directory that it is given."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("levity", "supervisor"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A fresh virtual environment, but for pip, which takes longest: this one's serves others, too."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    return tmp_path / "venv"


def pip(venv: Path, *arguments: str | Path) -> str:
    python = venv / "bin" / "python"
    return run(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet", *arguments)


def check_levity(venv: Path) -> None:
    """Run a task with the installed commands."""
    assert __version__ in run(venv / "bin" / "levity", "--version")
    assert __version__ in run(venv / "bin" / "levityd", "--version")
    assert "start" in run(venv / "bin" / "levity", "--help")
    assert "--state-dir" in run(venv / "bin" / "levityd", "--help")
    daemon = Daemon(command=[str(venv / "bin" / "levityd")])
    client = [str(venv / "bin" / "levity")]
    try:
        daemon.start()
        started = levity(daemon, "start", "--", "echo", "installed", command=client)
        assert started.returncode == 0, started
        task = started.stdout.decode().strip()
        eventually(lambda: levity(daemon, "query", task, command=client).stdout == b"Finished\n0\n", "the task's end")
        assert levity(daemon, "logs", task, command=client).stdout == b"installed\n"
        assert daemon.stop() == 0
    finally:
        daemon.end()


def check_supervisord(venv: Path, tmp_path: Path) -> None:
    """Have supervisord run a program, and tell it to stop."""
    assert run(venv / "bin" / "supervisord", "--version").startswith("4.")
    # A unix socket's path has 107 bytes at most, and supervisord writes a longer one beside it first.
    with tempfile.TemporaryDirectory(prefix="supervisord-", dir="/tmp") as directory:
        configuration = tmp_path / "supervisord.conf"
        configuration.write_text(SUPERVISORD_CONF.format(directory=directory))
        control: list[str | Path] = [venv / "bin" / "supervisorctl", "-c", configuration]
        with subprocess.Popen(
            [venv / "bin" / "supervisord", "-n", "-c", configuration],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
        ) as supervisord:
            try:
                eventually(lambda: "RUNNING" in ask(control, "status"), "supervisord to run a program", 30)
                assert "Shut down" in ask(control, "shutdown")
                assert supervisord.wait(30) == 0
            finally:
                supervisord.kill()


def ask(command: Sequence[str | Path], *arguments: str) -> str:
    """Return what a command that may fail says."""
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout


def test_pip_installs_both_commands(venv: Path, source: Path) -> None:
    pip(venv, "install", source)
    check_levity(venv)
    # Typed for those who use the library, and no more than what it needs.
    for package in ("levity", "supervisor"):
        code = f"import os, {package}; print(os.listdir({package}.__path__[0]))"
        assert "py.typed" in run(venv / "bin" / "python", "-I", "-c", code)
    frozen = pip(venv, "freeze").splitlines()
    assert {line.partition("==")[0].partition(" @ ")[0] for line in frozen} == {"levity", "psutil"}


@pytest.mark.parametrize("levity_is_first", [True, False], ids=["levity-first", "supervisord-first"])
def test_works_beside_supervisord(venv: Path, source: Path, tmp_path: Path, levity_is_first: bool) -> None:
    packages: list[str | Path] = [source, "supervisor==4.3.0"]
    for package in packages if levity_is_first else reversed(packages):
        pip(venv, "install", package)
    check_levity(venv)
    check_supervisord(venv, tmp_path)
    # Both own supervisor/__init__.py: the one that stays must do without.
    pip(venv, "uninstall", "-y", "supervisor")
    check_levity(venv)


def test_requirements_are_those_of_pyproject() -> None:
    assert [line.partition(">")[0] for line in requirements([])] == ["psutil"]
    names = [line.partition(">")[0] for line in requirements(["tls", "dev"])]
    assert {"psutil", "cryptography", "pytest", "ruff", "mypy"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("depth", [0, SHEBANG_LIMIT], ids=["short", "too-long-for-the-kernel"])
@pytest.mark.parametrize("name", ["plain", "with blank", "with'quote", 'with"quote', "with$dollar"])
def test_launchers_run_wherever_the_interpreter_is(tmp_path: Path, name: str, depth: int) -> None:
    python = tmp_path / ("d" * (depth // 2)) / ("d" * (depth // 2)) / name / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    script = tmp_path / "script"
    script.write_text(
        first_lines(str(python), "-IS") + "import sys\nprint(sys.flags.isolated, sys.flags.no_site, sys.argv[1:])\n"
    )
    script.chmod(0o755)
    assert run(script, "a b", "'") == f"1 1 {['a b', chr(39)]}\n"


@pytest.mark.parametrize(
    ("shell", "file"),
    [("bash", "levity.bash"), ("zsh", "_levity"), ("fish", "levity.fish")],
    ids=["bash", "zsh", "fish"],
)
def test_completions_are_well_formed(shell: str, file: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    run(shell, "-n", ROOT / "contrib" / "completions" / file)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lo"], "logs"),
        (["-a", "h", ":", "1", "st"], "start"),
        (["query", "--j"], "--json"),
        (["signal", "--g"], "--grace"),
        (["start", "--dir"], "--directory"),
        (["start", "-D", "X", "=", "1", "--", "cat", "/etc/passw"], "/etc/passwd"),
        (["start", "--user", "roo"], "root"),
        (["run", "--user", "root", "--", "cat", "/etc/passw"], "/etc/passwd"),
        (["--t"], "--tls"),
        (["--ca", "/etc/passw"], "/etc/passwd"),
        (["-k", "/etc/passw"], "/etc/passwd"),
        (["--tls", "logi"], "login"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_bash_completes(words: list[str], expected: str) -> None:
    code = """source "$0"; COMP_WORDS=(levity "$@"); COMP_CWORD=$#; _levity; echo "${COMPREPLY[*]}" """
    completion = ROOT / "contrib" / "completions" / "levity.bash"
    assert expected in run("bash", "-c", code, completion, *words).split()


def test_bash_asks_the_levityd_that_is_meant_for_ids(tmp_path: Path) -> None:
    fake = tmp_path / "levity"
    fake.write_text("#!/bin/sh\necho ID; echo $@ | tr ' ' ,\n")
    fake.chmod(0o755)
    code = (
        """PATH=$1:$PATH; shift; source "$0"; COMP_WORDS=(levity "$@"); COMP_CWORD=$#; _levity; echo ${COMPREPLY[*]}"""
    )
    completion = ROOT / "contrib" / "completions" / "levity.bash"
    words = ["--ca", "ca.pem", "-a", "h", ":", "1", "--tls", "-c", "c.pem", "-t", "5", "signal", ""]
    said = run("bash", "-c", code, completion, tmp_path, *words)
    assert said.strip() == "--ca,ca.pem,-a,h:1,--tls,-c,c.pem,-t,1,list"
