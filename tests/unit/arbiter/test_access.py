"""Who gets in: every combination of options, at every kind of address; none is open, none is plain off the host."""

import itertools
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from levity.addresses import is_loopback, parse_address
from levity.errors import InvalidRequest
from levity.tls import server_context
from supervisor.arbiter import listener as listener_module
from supervisor.arbiter.access import TlsFiles, access_for, login_advice, why_open
from supervisor.arbiter.certificates.x509 import Authority, make_authority, make_key
from supervisor.arbiter.listener import Listener, Place, find_place
from supervisor.arbiter.startup_error import CONFIGURATION, StartupError
from supervisor.settings import Access, Known, Tls
from tests.support.paths import ROOT

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away")
LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1"]
ELSEWHERE = ["0.0.0.0", "::", "192.0.2.1", "10.0.0.1", "8.8.8.8", "2001:db8::1", "fe80::1%lo", "::ffff:8.8.8.8"]
OPTIONS = ("certificate", "key", "client_ca", "crl")
# The rule, written down by hand: None is a usage error. Which options, who is known by what, and inside TLS or not.
SENSIBLE: dict[tuple[str, ...], Known] = {
    (): Known.TOKEN,
    ("certificate", "key"): Known.TOKEN,
    ("certificate", "key", "client_ca"): Known.CERTIFICATE,
    ("certificate", "key", "client_ca", "crl"): Known.CERTIFICATE,
}
COMBINATIONS = [
    tuple(name for name, is_given in zip(OPTIONS, given, strict=True) if is_given)
    for given in itertools.product([False, True], repeat=len(OPTIONS))
]


pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """An authority's files."""
    directory = tmp_path_factory.mktemp("certificates")
    ca_key, key = make_key(), make_key()
    ca = make_authority(ca_key, "host")
    authority = Authority(ca, ca_key)
    contents = {
        "certificate": authority.issue_server(key, ["localhost"]).certificate,
        "key": key,
        "client_ca": ca,
        "crl": authority.list_revoked([(7, 1)]),
    }
    for name, data in contents.items():
        (directory / name).write_bytes(data)
        (directory / name).chmod(0o600)
    return TlsFiles(**{name: str(directory / name) for name in contents})


def only(files: TlsFiles, names: tuple[str, ...]) -> TlsFiles:
    return TlsFiles(**{name: getattr(files, name) for name in names})


@pytest.mark.parametrize("host", [None, *LOOPBACK, *ELSEWHERE])
@pytest.mark.parametrize("given", COMBINATIONS, ids=" ".join)
def test_every_combination(made: TlsFiles, given: tuple[str, ...], host: str | None) -> None:
    files = only(made, given)
    if given not in SENSIBLE or (host is None and given):
        with pytest.raises(InvalidRequest):
            access_for(host, files)
        return
    access = access_for(host, files)
    if host is None:
        assert access.known is Known.PEER
        assert access.tls is None
        return
    assert access.known is SENSIBLE[given]
    assert (access.tls is None) == (host in LOOPBACK and not given)
    assert access.crl_path == files.crl
    assert (access.tls is not None and access.tls.client_ca is not None) == (access.known is Known.CERTIFICATE)
    if access.tls is not None:
        server_context(access.tls.certificate, access.tls.key, access.tls.client_ca)


# The socket, as it is bound


BINDABLE = ["127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"]
SOME_TLS = Tls(b"certificate", b"key")
EVERY_ACCESS = [
    Access(known, tls)
    for known in Known
    for tls in (None, SOME_TLS, replace(SOME_TLS, client_ca=b"ca"))
]  # fmt: skip
ALLOWED_ANYWHERE = [Access(Known.TOKEN, SOME_TLS), Access(Known.CERTIFICATE, replace(SOME_TLS, client_ca=b"ca"))]


def place(host: str | None) -> Place:
    return find_place(parse_address("unix:socket" if host is None else f"[{host}]:0" if ":" in host else f"{host}:0"))


@pytest.mark.parametrize("host", [None, *BINDABLE])
def test_no_socket_is_open_to_unknown_clients(host: str | None) -> None:
    """Whatever was decided before: all there is to decide, at all there is to bind."""
    allowed, refusals = [], []
    for access in EVERY_ACCESS:
        try:
            listener = Listener(place(host), access)
        except StartupError as error:
            refusals.append(error)
        else:
            allowed.append(access)
            listener.close()
    assert all(error.status == CONFIGURATION and "refused to listen" in error.message for error in refusals)
    assert set(os.listdir()) <= {"socket.lock"}
    if host is None:
        assert allowed == [Access()]
    elif host in ("127.0.0.1", "127.0.0.2", "::1"):
        assert allowed == [Access(Known.TOKEN), *ALLOWED_ANYWHERE]
    elif host != "::ffff:127.0.0.1":  # What that is depends on the version of Python.
        assert allowed == ALLOWED_ANYWHERE


def test_what_counts_is_where_the_socket_really_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that says loopback, and a bind that goes elsewhere."""
    monkeypatch.setattr(listener_module, "_bind_tcp", lambda _place: socket.create_server(("0.0.0.0", 0)))
    with pytest.raises(StartupError, match=r"0\.0\.0\.0"):
        Listener(place("127.0.0.1"), access_for("127.0.0.1", TlsFiles()))


def test_a_name_is_judged_by_its_address() -> None:
    found = place("localhost")
    assert found.host is not None
    assert is_loopback(found.host)


def test_an_unbound_socket_is_no_loopback() -> None:
    with socket.socket() as one:
        assert why_open(one, Access(Known.TOKEN))


# Files


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("certificate", b"", "not in PEM", id="an empty certificate"),
        pytest.param("certificate", b"\0" * 100, "not in PEM", id="a certificate of NULs"),
        pytest.param(
            "key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not in PEM", id="a damaged key"
        ),
        pytest.param("client_ca", b"", "no certificate or crl found", id="an empty CA"),
        pytest.param("crl", b"", "revocation lists", id="an empty revocation list"),
        pytest.param("crl", "client_ca", "revocation lists", id="a CA as revocation list"),
        pytest.param("certificate", "client_ca", "mismatch", id="a certificate of another key"),
        pytest.param("client_ca", "key", "no certificate or crl found", id="a key as CA"),
    ],
)
def test_a_file_that_will_not_do(made: TlsFiles, tmp_path: Path, name: str, content: bytes | str, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(Path(getattr(made, content)).read_bytes() if isinstance(content, str) else content)
    path.chmod(0o600)
    with pytest.raises(StartupError) as caught:
        access_for("127.0.0.1", replace(made, **{name: str(path)}))
    assert caught.value.status == CONFIGURATION
    assert f"--{name.replace('_', '-')} {path}" in caught.value.message
    assert said.lower() in caught.value.message.lower()
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("what", ["missing", "directory", "fifo"])
def test_a_file_that_cannot_be_read(made: TlsFiles, tmp_path: Path, name: str, what: str) -> None:
    path = tmp_path / "file"
    if what == "directory":
        path.mkdir(mode=0o700)
    elif what == "fifo":
        os.mkfifo(path, 0o600)
    with pytest.raises(StartupError) as caught:
        access_for("127.0.0.1", replace(made, **{name: str(path)}))
    assert caught.value.status == CONFIGURATION
    assert str(path) in caught.value.message


def test_a_key_with_a_passphrase(made: TlsFiles, tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert made.key is not None
    command = ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", made.key, "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    path.chmod(0o600)
    with pytest.raises(StartupError, match="passphrase"):
        access_for("127.0.0.1", replace(made, key=str(path)))


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o604, 0o660, 0o666, 0o650], ids=oct)
def test_a_key_that_others_can_read(made: TlsFiles, tmp_path: Path, mode: int) -> None:
    assert made.key is not None
    path = tmp_path / "key"
    path.write_bytes(Path(made.key).read_bytes())
    path.chmod(mode)
    with pytest.raises(StartupError, match=f"{mode:04o}"):
        access_for("127.0.0.1", replace(made, key=str(path)))


@needs_root
def test_whose_a_key_may_be(made: TlsFiles, tmp_path: Path) -> None:
    """Root may let a group read its key; a key of another user is refused."""
    assert made.key is not None
    path = tmp_path / "key"
    path.write_bytes(Path(made.key).read_bytes())
    path.chmod(0o640)
    os.chown(path, 0, 54321)
    assert access_for("127.0.0.1", replace(made, key=str(path))).tls is not None
    os.chown(path, 54321, 54321)
    with pytest.raises(StartupError, match="54321"):
        access_for("127.0.0.1", replace(made, key=str(path)))


@pytest.mark.parametrize("name", ["certificate", "client_ca", "crl"])
def test_a_file_that_everybody_can_change(made: TlsFiles, tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(Path(getattr(made, name)).read_bytes())
    path.chmod(0o666)
    with pytest.raises(StartupError, match="0666"):
        access_for("127.0.0.1", replace(made, **{name: str(path)}))


def test_an_expired_certificate_is_a_warning(made: TlsFiles, capfd: pytest.CaptureFixture[str]) -> None:
    access_for("127.0.0.1", made)
    assert capfd.readouterr().err == ""
    assert access_for("127.0.0.1", made, now=lambda: 4e9).tls is not None
    assert f"warning: --certificate {made.certificate} has expired" in capfd.readouterr().err


# The certificate that levityd makes


def test_the_own_certificate_is_made_once(state: Path) -> None:
    first = access_for("0.0.0.0", TlsFiles())
    assert access_for("::", TlsFiles()) == first
    for name in ("certificate.pem", "certificate.key"):
        assert (state / name).stat().st_mode & 0o7777 == 0o600
    assert sorted(os.listdir(state)) == ["certificate.key", "certificate.pem"]
    command = ["openssl", "x509", "-in", "certificate.pem", "-noout", "-checkend", str(10 * 366 * 86400)]
    subprocess.run(command, check=True, capture_output=True)


def test_the_own_certificate_is_not_made_where_none_is_needed(state: Path, made: TlsFiles) -> None:
    for host, files in ((None, TlsFiles()), ("127.0.0.1", TlsFiles()), ("0.0.0.0", made)):
        access_for(host, files)
    assert os.listdir(state) == []


def test_killed_between_key_and_certificate(state: Path) -> None:
    """After each of the system calls that change something."""
    code = (
        "import os, signal, sys; from supervisor.arbiter import access; left = int(sys.argv[1])\n"
        "def dying(function):\n"
        "    def call(*args, **options):\n"
        "        global left\n"
        "        result = function(*args, **options)\n"
        "        left -= 1\n"
        "        left or os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return result\n"
        "    return call\n"
        "for name in ('open', 'write', 'link', 'unlink'): setattr(os, name, dying(getattr(os, name)))\n"
        "access.access_for('0.0.0.0', access.TlsFiles())\n"
    )
    for count in itertools.count(1):
        for path in state.iterdir():
            path.unlink()
        done = subprocess.run(
            [sys.executable, "-c", code, str(count)], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
        )
        tls = access_for("0.0.0.0", TlsFiles()).tls
        assert tls is not None
        server_context(tls.certificate, tls.key)
        if done.returncode == 0:
            break
    assert count > 8


@pytest.mark.parametrize("damage", ["no key", "other key", "empty", "mode", "link"])
def test_an_own_certificate_that_was_damaged_is_refused(state: Path, damage: str) -> None:
    access_for("0.0.0.0", TlsFiles())
    key = state / "certificate.key"
    if damage == "mode":
        key.chmod(0o640)
    elif damage == "link":
        key.symlink_to(key.rename(state.parent / "key"))
    elif damage == "no key":
        key.unlink()
    else:
        key.write_bytes(b"" if damage == "empty" else make_key())
    with pytest.raises(StartupError, match=r"certificate\.pem and") as caught:
        access_for("0.0.0.0", TlsFiles())
    assert caught.value.status == CONFIGURATION


# More


def test_no_key_shows() -> None:
    access = access_for("0.0.0.0", TlsFiles())
    assert access.tls is not None
    assert "PRIVATE" not in repr(access)
    listener = Listener(place("::1"), access)
    assert "PRIVATE" not in repr(listener)
    listener.close()


def test_how_a_client_gets_in(made: TlsFiles, tmp_path: Path) -> None:
    advice = login_advice(access_for("0.0.0.0", TlsFiles()), parse_address("10.0.0.1:4321"), "/a b")
    assert "levityd token show --state-dir '/a b'" in advice
    assert "levity -a 10.0.0.1:4321 login" in advice
    fingerprint = ["openssl", "x509", "-in", "certificate.pem", "-noout", "-fingerprint", "-sha256"]
    shown = subprocess.run(fingerprint, capture_output=True, text=True, check=True).stdout
    assert shown.strip().partition("=")[2] in advice
    for host, files in ((None, TlsFiles()), ("127.0.0.1", TlsFiles()), ("127.0.0.1", made)):
        assert login_advice(access_for(host, files), parse_address("10.0.0.1:4321"), str(tmp_path)) == ""
    anywhere = login_advice(access_for("0.0.0.0", TlsFiles()), parse_address("0.0.0.0:4321"), "/x")
    assert f"-a {socket.gethostname()}:4321 login" in anywhere


def test_the_front_end_of_root_becomes_another_user() -> None:
    ids = access_for("127.0.0.1", TlsFiles()).frontend_ids
    if os.geteuid() == 0:
        assert ids is not None
        assert 0 not in ids
    else:
        assert ids is None
