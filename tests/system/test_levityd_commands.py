"""`levityd token` and `levityd certs`, and the options that go with them, as an operator has them."""

import os
import re
import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.launch import CONFIGURATION, ELSEWHERE, FAILED, TOKEN, USAGE, Run, failed, fine, refused, run_levityd
from tests.support.paths import levityd_command

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is another user, too")
OWN_NAME = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


# Tokens


def test_show_makes_the_own_token(levityd: Run, place: Path) -> None:
    first = levityd("token", "show")
    assert TOKEN.fullmatch(fine(first))
    assert "levity -a HOST:PORT login" in first.stderr
    assert "levity_" not in first.stderr
    assert fine(levityd("token", "show")) == first.stdout == (place / "token").read_text()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_add_list_show_revoke(levityd: Run, place: Path) -> None:
    tokens = [fine(levityd("token", "show")), fine(levityd("token", "add", "alice"))]
    tokens.append(fine(levityd("token", "add", "bob", "--role", "viewer")))
    assert all(TOKEN.fullmatch(token) for token in tokens)
    assert len(set(tokens)) == 3
    listed = fine(levityd("token", "list"))
    assert "levity_" not in listed
    rows = [line.split() for line in listed.splitlines()]
    assert [row[:2] for row in rows] == [["NAME", "ROLE"], [OWN_NAME, "admin"], ["alice", "user"], ["bob", "viewer"]]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", " ".join(row[2:])) for row in rows[1:])
    assert fine(levityd("token", "show", "bob")) == tokens[2]
    assert fine(levityd("token", "revoke", "alice")) == ""
    assert "alice" not in fine(levityd("token", "list"))
    assert "alice" in failed(levityd("token", "show", "alice"), FAILED)
    assert "alice" in failed(levityd("token", "revoke", "alice"), FAILED)
    for path in place.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_the_own_token_is_replaced(levityd: Run) -> None:
    first = fine(levityd("token", "show"))
    assert "token show" in levityd("token", "revoke", OWN_NAME).stderr
    assert fine(levityd("token", "show")) != first


@pytest.mark.parametrize(
    "arguments",
    [
        *("token", "token x", "token add", "token add a/b", "token add a --role root", "token list x", "token revoke"),
        *("token show a/b", "certs", "certs user", "certs user ../x --days 1", "certs user a --days 0"),
        *("certs role a", "certs role a root", "certs init a/b c", "certs user a --days 9999", "certs user a --days x"),
    ],
)
def test_a_command_line_that_makes_no_sense(levityd: Run, arguments: str) -> None:
    line = failed(levityd(*arguments.split()), USAGE)
    assert "_days" not in line
    assert "_server_name" not in line


@pytest.mark.parametrize("form", ["--state-dir {}", "--state-dir={}"])
def test_the_state_directory_may_come_first(place: Path, form: str) -> None:
    done = run_levityd(*form.format(place).split(), "token", "list")
    assert (done.returncode, done.stdout.split()) == (0, ["NAME", "ROLE", "CREATED"])


def test_an_empty_state_directory_is_a_mistake() -> None:
    """A variable that is not set, in a script: not to be the default one."""
    for words in (["--state-dir", ""], ["token", "list", "--state-dir="]):
        assert "--state-dir is empty" in failed(run_levityd(*words), 2)


def test_a_token_that_is_there_already(levityd: Run) -> None:
    first = fine(levityd("token", "add", "alice"))
    assert "revoke alice" in failed(levityd("token", "add", "alice", "--role", "admin"), FAILED)
    assert fine(levityd("token", "show", "alice")) == first
    failed(levityd("token", "add", OWN_NAME), FAILED)


def test_the_token_alone_is_on_standard_output_or_it_failed(place: Path) -> None:
    command = shlex.join([*levityd_command(), "token", "show", "--state-dir", str(place)])
    done = subprocess.run(["/bin/sh", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)
    assert done.returncode == FAILED
    assert "No space" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["token show", "certs role alice viewer"])
def test_a_state_directory_that_is_not_ones_own(levityd: Run, place: Path, command: str) -> None:
    place.mkdir()
    place.chmod(0o755)
    assert "chmod 700" in failed(levityd(*command.split()), CONFIGURATION)
    assert os.listdir(place) == []


@needs_root
def test_the_state_directory_of_another_user(levityd: Run, place: Path) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, 54321, 54321)
    assert "belongs to user 54321" in failed(levityd("token", "show"), CONFIGURATION)
    assert os.listdir(place) == []


def test_while_levityd_runs(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon("127.0.0.1:0").start()
    token = (daemon.state_dir / "token").read_text()
    assert TOKEN.fullmatch(token)
    assert fine(run_levityd("token", "show", "--state-dir", str(daemon.state_dir))) == token
    assert TOKEN.fullmatch(fine(run_levityd("token", "add", "alice", "--state-dir", str(daemon.state_dir))))
    daemon.restart()
    assert (daemon.state_dir / "token").read_text() == token
    assert "levity_" not in daemon.stderr_text()


def test_no_token_is_made_for_a_unix_socket(daemon: Daemon) -> None:
    assert not {"token", "certificate.pem"} & set(os.listdir(daemon.state_dir))


def test_no_token_is_in_the_memory_that_the_front_end_has(make_daemon: Callable[..., Daemon]) -> None:
    """Neither in that of the arbiter, from which it is forked; also not the first time, when it is made."""
    daemon = make_daemon("127.0.0.1:0").start()
    text = (daemon.state_dir / "token").read_text().strip().removeprefix("levity_")
    for role in ("arbiter", "front-end"):
        memory = memory_of(daemon.pid_of(role))
        assert b"levity-arbiter" in memory or len(memory) > 10**6
        assert text.encode() not in memory
        assert bytes.fromhex(text) not in memory


def memory_of(pid: int) -> bytes:
    found = b""
    maps = Path(f"/proc/{pid}/maps").read_text()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps.splitlines():
            place, mode = line.split()[:2]
            start, end = (int(part, 16) for part in place.split("-"))
            if mode.startswith("rw"):
                memory.seek(start)
                found += memory.read(end - start)
    return found


# Options


@pytest.mark.parametrize("address", [ELSEWHERE, "127.0.0.1:0", "localhost:0", "[::1]:0", "unix:/tmp/x", ""])
@pytest.mark.parametrize("options", ["--key x", "--certificate x", "--client-ca x", "--crl x", "--client-ca x --crl x"])
def test_options_that_do_not_go_together(place: Path, address: str, options: str) -> None:
    code, line = refused(place, *options.split(), *([address] if address else []))
    assert code == USAGE
    assert options.partition(" ")[0] in line
    assert not place.exists()


def test_a_token_that_is_not_private_any_more(levityd: Run, place: Path) -> None:
    fine(levityd("token", "show"))
    (place / "token").chmod(0o644)
    code, line = refused(place, "127.0.0.1:0")
    assert code == CONFIGURATION
    assert "token: it has mode 0644" in line
    assert "levity_" not in line
