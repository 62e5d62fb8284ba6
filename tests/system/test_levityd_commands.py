"""`levityd token` and `levityd certs`, and the options that go with them, as an operator has them."""

import json
import os
import re
import shlex
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.launch import refused, run_levityd, without
from tests.support.paths import levityd_command

FAILED, USAGE, CONFIGURATION = 1, 2, 78
TOKEN = re.compile(r"levity_[0-9a-f]{64}\n")
# Nobody has it (RFC 5737), so what would listen there is set up, and does not.
ELSEWHERE = "192.0.2.1:4321"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is another user, too")
OWN_NAME = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def levityd(place: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_levityd(*arguments, "--state-dir", str(place))

    return run


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def fine(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def failed(done: "subprocess.CompletedProcess[str]", status: int) -> str:
    """Return the one line that says why; nothing else is said."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("levityd: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


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
def test_what_makes_no_sense(levityd: Run, arguments: str) -> None:
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
def test_the_state_directory_of_somebody_else(levityd: Run, place: Path) -> None:
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


# Certificates


@pytest.fixture
def authority(levityd: Run, place: Path) -> Path:
    fine(levityd("certs", "init", "vm.example", "10.1.2.3"))
    return place / "certs"


def verify(certs: Path, name: str, purpose: str) -> bool:
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(certs / "ca.pem"), "-purpose", purpose]
    command += ["-crl_check", "-CRLfile", str(certs / "crl.pem"), str(certs / f"{name}.pem")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_an_authority(levityd: Run, authority: Path) -> None:
    assert sorted(os.listdir(authority)) == ["ca.key", "ca.pem", "crl.pem", "issued.json", "server.key", "server.pem"]
    for path in (authority, *authority.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert verify(authority, "server", "sslserver")
    text = subprocess.run(
        ["openssl", "x509", "-in", str(authority / "server.pem"), "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in (socket.gethostname(), "localhost", "vm.example"):
        assert f"DNS:{name}" in text
    for name in ("127.0.0.1", "0:0:0:0:0:0:0:1", "10.1.2.3"):
        assert f"IP Address:{name}" in text
    before = {path: path.read_bytes() for path in authority.iterdir()}
    assert "certs already" in failed(levityd("certs", "init"), FAILED)
    assert before == {path: path.read_bytes() for path in authority.iterdir()}


def test_a_user_is_made_and_revoked(levityd: Run, authority: Path, place: Path) -> None:
    made = levityd("certs", "user", "alice", "--role", "viewer")
    assert fine(made) == ""
    assert "levity --ca ca.pem -c alice.pem -k alice.key -a " in made.stderr
    assert "PRIVATE" not in made.stderr
    fine(levityd("certs", "user", "bob"))
    for name in ("alice.pem", "alice.key"):
        assert stat.S_IMODE((authority / name).stat().st_mode) == 0o600
    assert verify(authority, "alice", "sslclient")
    assert not verify(authority, "alice", "sslserver")
    assert json.loads((place / "roles.json").read_text()) == {"alice": "viewer"}
    assert "revoke alice" in failed(levityd("certs", "user", "alice"), FAILED)
    # A second one beside it.
    old = {name: (authority / name).rename(place / name) for name in ("alice.pem", "alice.key")}
    fine(levityd("certs", "user", "alice"))
    new = (authority / "alice.pem").read_bytes()
    assert json.loads((place / "roles.json").read_text()) == {}
    done = levityd("certs", "revoke", "alice")
    assert fine(done) == ""
    assert "2 certificates" in done.stderr
    assert not {"alice.pem", "alice.key"} & set(os.listdir(authority))
    for content in (new, old["alice.pem"].read_bytes()):
        (authority / "revoked.pem").write_bytes(content)
        assert not verify(authority, "revoked", "sslclient")
    assert verify(authority, "bob", "sslclient")
    fine(levityd("certs", "user", "alice"))
    assert verify(authority, "alice", "sslclient")
    assert "0 certificates" in levityd("certs", "revoke", "bob").stderr.replace("1 certificate", "0 certificates")
    assert "0 certificates" in levityd("certs", "revoke", "bob").stderr
    assert "nobody" in failed(levityd("certs", "revoke", "nobody"), FAILED)


def test_roles(levityd: Run, place: Path) -> None:
    """Without an authority of levityd's: theirs may be another."""
    fine(levityd("certs", "role", "alice", "admin"))
    fine(levityd("certs", "role", "bob", "viewer"))
    assert json.loads((place / "roles.json").read_text()) == {"alice": "admin", "bob": "viewer"}
    fine(levityd("certs", "role", "alice", "user"))
    assert json.loads((place / "roles.json").read_text()) == {"bob": "viewer"}


@pytest.mark.parametrize("name", ["ca", "server", "crl"])
def test_the_authoritys_own_names(levityd: Run, authority: Path, name: str) -> None:
    failed(levityd("certs", "user", name), USAGE)
    assert verify(authority, "server", "sslserver")


def test_no_authority(levityd: Run) -> None:
    for command in ("user", "revoke"):
        assert "certs init" in failed(levityd("certs", command, "alice"), FAILED)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version":1}', '{"version":1,"issued":[{"user":7}]}', '{"version":2}']
)
def test_a_damaged_record(levityd: Run, authority: Path, content: str) -> None:
    (authority / "issued.json").write_text(content)
    for command in ("user", "revoke"):
        assert "issued.json" in failed(levityd("certs", command, "alice"), FAILED)
    assert (authority / "issued.json").read_text() == content


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "issued.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "mode"])
def test_damaged_files(levityd: Run, authority: Path, name: str, damage: str) -> None:
    if damage == "missing":
        (authority / name).unlink()
    elif damage == "empty":
        (authority / name).write_text("")
    else:
        (authority / name).chmod(0o644)
    assert name in failed(levityd("certs", "user", "alice"), FAILED)
    assert not (authority / "alice.pem").exists()


def test_levityd_starts_with_what_it_says(levityd: Run, place: Path, make_daemon: Callable[..., Daemon]) -> None:
    done = levityd("certs", "init")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("then:")]
    words = shlex.split(line.partition("levityd ")[2])
    assert words[-1] == "0.0.0.0:4321"
    options = words[words.index("--certificate") : -1]
    command = [*levityd_command(), *options]
    daemon = make_daemon("127.0.0.1:0", command=command, state_dir=place).start()
    assert "To let a client in" not in daemon.stderr_text()
    assert not (place / "token").exists()
    fine(levityd("certs", "user", "alice"))


@pytest.mark.parametrize(
    "name", ["10.1.2.300", "::zz", "a..b", "a/b", "*", "a.*", "fe80::1%lo", "x" * 64, "ü", ".a", "1.2"]
)
def test_what_is_no_name_of_a_server(levityd: Run, place: Path, name: str) -> None:
    assert "no name or address" in failed(levityd("certs", "init", name), USAGE)
    assert not (place / "certs").exists()


def test_names_of_servers(levityd: Run, place: Path) -> None:
    fine(levityd("certs", "init", "*.example.org", "under_score", "0:0::7", "a", "4.example.4a"))
    assert verify(place / "certs", "server", "sslserver")


@pytest.mark.race
def test_several_at_once_make_one_authority(place: Path) -> None:
    command = [*levityd_command(), "certs", "init", "--state-dir", str(place)]
    found = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    said = [one.communicate(timeout=30)[1] for one in found]
    assert sorted(one.returncode for one in found) == [0, 1, 1, 1, 1, 1], said
    assert os.listdir(place) == ["certs"]
    assert verify(place / "certs", "server", "sslserver")


@pytest.mark.race
def test_several_at_once_issue_and_revoke(levityd: Run, authority: Path, place: Path) -> None:
    """None is forgotten: each is in the record, and those revoked are in the list."""
    users = [f"user{n}" for n in range(6)]
    fine(levityd("certs", "user", "other"))
    for action in ("user", "revoke"):
        commands = [[*levityd_command(), "certs", action, user, "--state-dir", str(place)] for user in users]
        found = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
        assert [one.communicate(timeout=30)[1] and one.returncode for one in found] == [0] * 6
    record = json.loads((authority / "issued.json").read_text())["issued"]
    assert sorted(one["user"] for one in record) == ["other", *users]
    crl = subprocess.run(
        ["openssl", "crl", "-in", str(authority / "crl.pem"), "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert crl.count("Serial Number") == 6


# Without the package that makes certificates


@pytest.mark.parametrize("command", ["certs init", "certs user alice", "certs revoke alice"])
def test_certs_without_cryptography(place: Path, command: str) -> None:
    done = run_levityd(*command.split(), "--state-dir", str(place), command=without("cryptography"))
    assert "pip install cryptography" in failed(done, CONFIGURATION)


def test_off_loopback_without_cryptography(place: Path) -> None:
    code, line = refused(place, ELSEWHERE, command=without("cryptography"))
    assert code == CONFIGURATION
    assert "pip install cryptography" in line
    assert "--certificate" in line
    assert "certificate.key" not in os.listdir(place)


def test_off_loopback_with_what_was_made_before(place: Path) -> None:
    for command in (levityd_command(), without("cryptography")):
        code, line = refused(place, ELSEWHERE, command=command)
        assert code == CONFIGURATION
        assert "cannot listen on 192.0.2.1:4321" in line
    assert {"certificate.key", "certificate.pem"} <= set(os.listdir(place))


def test_the_rest_works_without_cryptography_and_without_ssl(make_daemon: Callable[..., Daemon], place: Path) -> None:
    for module in ("cryptography", "ssl"):
        daemon = make_daemon("127.0.0.1:0", command=without(module)).start()
        assert TOKEN.fullmatch((daemon.state_dir / "token").read_text())
    for command in ("token list", "token add alice", "certs role alice viewer"):
        fine(run_levityd(*command.split(), "--state-dir", str(place), command=without("cryptography")))


# Options


@pytest.mark.parametrize("address", [ELSEWHERE, "127.0.0.1:0", "localhost:0", "[::1]:0", "unix:/tmp/x", ""])
@pytest.mark.parametrize("options", ["--key x", "--certificate x", "--client-ca x", "--crl x", "--client-ca x --crl x"])
def test_options_that_do_not_go_together(place: Path, address: str, options: str) -> None:
    code, line = refused(place, *options.split(), *([address] if address else []))
    assert code == USAGE
    assert options.partition(" ")[0] in line
    assert not place.exists()


@pytest.mark.parametrize("option", ["--certificate", "--key", "--client-ca", "--crl"])
def test_a_file_that_is_missing(authority: Path, tmp_path: Path, option: str) -> None:
    files = {"--certificate": "server.pem", "--key": "server.key", "--client-ca": "ca.pem", "--crl": "crl.pem"}
    given = {name: str(authority / file) for name, file in files.items()} | {option: "/no/such/file"}
    code, line = refused(tmp_path / "other", *(word for pair in given.items() for word in pair), "127.0.0.1:0")
    assert code == CONFIGURATION
    assert f"{option} /no/such/file: No such file or directory" in line


def test_a_token_that_is_not_private_any_more(levityd: Run, place: Path) -> None:
    fine(levityd("token", "show"))
    (place / "token").chmod(0o644)
    code, line = refused(place, "127.0.0.1:0")
    assert code == CONFIGURATION
    assert "token: it has mode 0644" in line
    assert "levity_" not in line
