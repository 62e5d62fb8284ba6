"""`levityd certs`, also without the package that it needs, as an operator has it."""

import json
import os
import shlex
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.launch import (
    CONFIGURATION,
    ELSEWHERE,
    FAILED,
    TOKEN,
    USAGE,
    Run,
    failed,
    fine,
    refused,
    run_levityd,
    without,
)
from tests.support.paths import levityd_command


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
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut off"),
        pytest.param("[]", id="not an object"),
        pytest.param('{"version":1}', id="without its list"),
        pytest.param('{"version":1,"issued":[{"user":7}]}', id="a certificate without its serial number"),
        pytest.param('{"version":2}', id="of a newer levity"),
    ],
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
def test_a_malformed_name_of_a_server(levityd: Run, place: Path, name: str) -> None:
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


@pytest.mark.parametrize("option", ["--certificate", "--key", "--client-ca", "--crl"])
def test_a_file_that_is_missing(authority: Path, tmp_path: Path, option: str) -> None:
    files = {"--certificate": "server.pem", "--key": "server.key", "--client-ca": "ca.pem", "--crl": "crl.pem"}
    given = {name: str(authority / file) for name, file in files.items()} | {option: "/no/such/file"}
    code, line = refused(tmp_path / "other", *(word for pair in given.items() for word in pair), "127.0.0.1:0")
    assert code == CONFIGURATION
    assert f"{option} /no/such/file: No such file or directory" in line
