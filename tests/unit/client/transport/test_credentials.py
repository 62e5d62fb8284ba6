"""Where the client finds its token, and which files it takes. Runs in: pytest."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from levity import Client
from levity.addresses import Address, parse_address
from levity.cli.main import main
from levity.errors import AuthenticationError, BadAddress, InvalidRequest, LevityError
from levity.protocol.token_proof import format_token
from levity.transport.credentials import Credentials, remove_token, store_token, token_path

Captured = pytest.CaptureFixture[str]
KEY = bytes(range(32))
LOCAL, REMOTE = parse_address("127.0.0.1:4321"), parse_address("host.example:4321")


def write_token(path: Path, key: bytes = KEY, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{format_token(key)}\n")
    path.chmod(mode)
    return path


def test_the_first_place_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(is_loopback: bool = True, **given: str) -> bytes:
        return Credentials(**given).find_key(LOCAL, is_loopback)[0]  # type: ignore[arg-type]

    keys = [bytes([number]) * 32 for number in range(4)]
    with pytest.raises(AuthenticationError, match=r"no token is known for 127\.0\.0\.1:4321: `levity -a .* login`"):
        found()
    write_token(home / "state" / "token", keys[0])
    assert found() == keys[0]
    with pytest.raises(AuthenticationError, match="or set LEVITY_TOKEN_FILE; nothing was sent"):
        found(is_loopback=False)
    write_token(home / "config" / "levity" / "tokens" / "127.0.0.1:4321", keys[1])
    assert found() == found(is_loopback=False) == keys[1]
    monkeypatch.setenv("LEVITY_TOKEN_FILE", str(write_token(home / "variable", keys[2])))
    assert found() == keys[2]
    assert found(token_file=str(write_token(home / "given", keys[3]))) == keys[3]
    with pytest.raises(AuthenticationError, match="missing is not there"):
        found(token_file=str(home / "missing"))
    monkeypatch.setenv("LEVITY_TOKEN_FILE", str(home / "missing"))
    with pytest.raises(AuthenticationError, match="missing is not there"):
        found()


def test_a_missing_token_is_told_with_all_ways_to_give_it(home: Path) -> None:
    with pytest.raises(AuthenticationError) as caught:
        Credentials().find_key(LOCAL, is_loopback=True)
    assert caught.value.message == (
        "no token is known for 127.0.0.1:4321: `levity -a 127.0.0.1:4321 login` stores one, or set LEVITY_TOKEN_FILE,"
        " or LEVITY_STATE_DIR if it runs with another state directory; nothing was sent"
    )
    assert home


def is_open_to_others(path: Path) -> None:
    write_token(path, mode=0o644)


def is_open_to_the_group(path: Path) -> None:
    write_token(path, mode=0o620)


def is_a_symlink(path: Path) -> None:
    path.symlink_to(write_token(path.parent / "real"))


def is_a_directory(path: Path) -> None:
    path.mkdir()


def is_a_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def is_another_users(path: Path) -> None:
    os.chown(write_token(path), 54321, 54321)


def is_empty(path: Path) -> None:
    path.touch(0o600)


def is_half_a_token(path: Path) -> None:
    write_token(path, KEY[:16])


def is_no_text(path: Path) -> None:
    path.touch(0o600)
    path.write_bytes(b"levity_\xff" + bytes(2000))


SPOILT = [
    pytest.param(is_open_to_others, r"is open to others \(mode 0644\): `chmod 600` it", id="open to others"),
    pytest.param(is_open_to_the_group, r"is open to others \(mode 0620\)", id="open to the group"),
    pytest.param(is_a_symlink, "is a symbolic link", id="a symbolic link"),
    pytest.param(is_a_directory, "is no regular file", id="a directory"),
    pytest.param(is_a_pipe, "is no regular file", id="a pipe"),
    pytest.param(is_empty, "holds no token", id="empty"),
    pytest.param(is_half_a_token, "holds no token", id="half a token"),
    pytest.param(is_no_text, "holds no token", id="no text"),
]
if os.geteuid() == 0:
    SPOILT.append(pytest.param(is_another_users, "is not yours .*uid 54321", id="another user's"))


@pytest.mark.parametrize("place", ["variable", "stored", "state"])
@pytest.mark.parametrize(("make", "why"), SPOILT)
def test_a_file_that_others_could_read_or_change(
    place: str, make: Callable[[Path], None], why: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = {
        "variable": home / "token",
        "stored": home / "config" / "levity" / "tokens" / "127.0.0.1:4321",
        "state": home / "state" / "token",
    }[place]
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    if place == "variable":
        monkeypatch.setenv("LEVITY_TOKEN_FILE", str(path))
    with pytest.raises(AuthenticationError, match=why) as caught:
        Credentials().find_key(LOCAL, is_loopback=True)
    assert str(path) in caught.value.message
    assert KEY.hex()[:32] not in caught.value.message
    assert "\n" not in caught.value.message


def test_a_refused_file_is_not_skipped(home: Path) -> None:
    is_open_to_others(home / "config" / "levity" / "tokens" / "127.0.0.1:4321")
    write_token(home / "state" / "token")
    with pytest.raises(AuthenticationError, match="open to others"):
        Credentials().find_key(LOCAL, is_loopback=True)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        pytest.param("127.0.0.1:4321", "127.0.0.1:4321", id="127.0.0.1:4321"),
        pytest.param("[::1]:4321", "[::1]:4321", id="[::1]:4321"),
        pytest.param("[fe80::1%eth0]:4321", "[fe80::1%eth0]:4321", id="[fe80::1%eth0]:4321"),
        pytest.param("Host.Example:4321", "host.example:4321", id="Host.Example:4321"),
    ],
)
def test_a_tokens_file_has_the_name_of_its_address(address: str, name: str) -> None:
    assert token_path(parse_address(address), {"XDG_CONFIG_HOME": "/c"}) == f"/c/levity/tokens/{name}"


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(Address("../../x", 1), id="a path as host"),
        pytest.param(Address("a\0b", 1), id="a NUL in the host"),
        pytest.param(Address(path="/run/s"), id="a unix socket"),
    ],
)
def test_no_address_leads_out_of_the_directory(address: Address) -> None:
    with pytest.raises(BadAddress):
        token_path(address, {})


def test_the_configuration_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/trent")
    for environ in ({}, {"XDG_CONFIG_HOME": "relative"}):
        assert token_path(LOCAL, environ) == "/home/trent/.config/levity/tokens/127.0.0.1:4321"


def test_storing_and_removing(home: Path) -> None:
    old = os.umask(0)
    try:
        path = Path(store_token(REMOTE, bytes(32)))
        store_token(REMOTE, KEY)
    finally:
        os.umask(old)
    assert path == home / "config" / "levity" / "tokens" / "host.example:4321"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for directory in path.parents[:2]:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == [path.name]
    assert Credentials().find_key(REMOTE, is_loopback=False)[0] == KEY
    assert remove_token(REMOTE) == str(path)
    assert remove_token(REMOTE) is None


def test_a_symlink_in_the_place_of_a_token_is_replaced_and_not_written_through(home: Path) -> None:
    victim = home / "victim"
    victim.write_text("precious")
    path = home / "config" / "levity" / "tokens" / "host.example:4321"
    path.parent.mkdir(parents=True, mode=0o700)
    path.symlink_to(victim)
    store_token(REMOTE, KEY)
    assert victim.read_text() == "precious"
    assert not path.is_symlink()


def test_no_token_goes_where_others_may_write(home: Path) -> None:
    directory = home / "config" / "levity" / "tokens"
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    with pytest.raises(LevityError, match="can be changed by others"):
        store_token(REMOTE, KEY)
    assert os.listdir(directory) == []
    directory.rmdir()
    directory.touch()
    with pytest.raises(LevityError, match="the token cannot be kept in"):
        store_token(REMOTE, KEY)


def test_a_token_that_cannot_be_stored_is_left_nowhere(home: Path) -> None:
    directory = home / "config" / "levity" / "tokens"
    (directory / "host.example:4321").mkdir(parents=True, mode=0o700)
    directory.chmod(0o700)
    with pytest.raises(LevityError, match="the token cannot be kept in"):
        store_token(REMOTE, KEY)
    assert os.listdir(directory) == ["host.example:4321"]


# Options together.


@pytest.mark.parametrize(
    ("given", "environ", "why"),
    [
        pytest.param(
            {"certificate": "c"},
            {},
            "only shown to a server that is known by its own: give the CA's",
            id="a certificate without CA",
        ),
        pytest.param({"key": "k"}, {}, "a key .* belongs to a certificate", id="a key without certificate"),
        pytest.param(
            {"key": "k", "ca": "a"},
            {"LEVITY_CLIENT_CERT": "c"},
            "a key .* belongs to a certificate",
            id="a key with the certificate of the environment",
        ),
        pytest.param(
            {},
            {"LEVITY_CLIENT_CERT": "c"},
            "give the CA's certificate",
            id="the certificate of the environment without CA",
        ),
        pytest.param(
            {},
            {"LEVITY_CLIENT_KEY": "k", "LEVITY_CACERT": "a"},
            "LEVITY_CLIENT_CERT is not",
            id="the key of the environment without certificate",
        ),
        pytest.param({"ca": ""}, {}, "no name of a file", id="an empty name"),
        pytest.param({"token_file": "a\0b"}, {}, "no name of a file", id="a name with a NUL"),
        pytest.param({"ca": b"a"}, {}, "no name of a file", id="a name as bytes"),
    ],
)
def test_options_that_do_not_go_together(given: dict[str, str], environ: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        Credentials(**given, environ=environ)  # type: ignore[arg-type]


def test_options_go_before_the_environment() -> None:
    environ = {"LEVITY_CACERT": "ea", "LEVITY_CLIENT_CERT": "ec", "LEVITY_CLIENT_KEY": "ek"}

    def taken(**given: str | Path | bool) -> tuple[str | None, str | None, str | None, bool]:
        found = Credentials(**given, environ=environ)  # type: ignore[arg-type]
        return found.ca, found.certificate, found.key, found.tls

    assert taken() == ("ea", "ec", "ek", True)
    assert taken(ca=Path("a")) == ("a", "ec", "ek", True)
    # The key of another certificate would only fail.
    assert taken(certificate="c") == ("ea", "c", None, True)
    environ.clear()
    assert taken() == (None, None, None, False)
    assert taken(tls=True) == (None, None, None, True)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"ca": "a"}, id="a CA"),
        pytest.param({"cert": "c", "ca": "a"}, id="a certificate"),
        pytest.param({"key": "k"}, id="a key"),
        pytest.param({"tls": True}, id="TLS"),
        pytest.param({"token_file": "t"}, id="a token"),
    ],
)
def test_a_unix_socket_takes_no_credentials(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="the kernel says who is there"):
        Client("unix:/run/s", **given)  # type: ignore[arg-type]
    monkeypatch.setenv("LEVITY_CLIENT_CERT", "c")
    Client("unix:/run/s")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--ca", "a"], id="a CA"),
        pytest.param(["-c", "c"], id="a certificate"),
        pytest.param(["-k", "k"], id="a key"),
        pytest.param(["--tls"], id="TLS"),
    ],
)
def test_the_command_takes_no_credentials_at_a_unix_socket(options: list[str], capfd: Captured) -> None:
    assert main(["-a", "unix:/run/s", *options, "list"]) == 2
    assert "the kernel says who is there" in capfd.readouterr().err
