"""Address forms and default places. Runs in: pytest."""

import ipaddress
import os
import socket
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from levity.addresses import Address, default_address, is_loopback, parse_address, state_directory
from levity.errors import BadAddress


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("127.0.0.1:4321", Address("127.0.0.1", 4321), id="127.0.0.1:4321"),
        pytest.param("host.example:1", Address("host.example", 1), id="host.example:1"),
        pytest.param("0.0.0.0:0", Address("0.0.0.0", 0), id="0.0.0.0:0"),
        pytest.param("localhost:65535", Address("localhost", 65535), id="localhost:65535"),
        pytest.param("[::1]:4321", Address("::1", 4321), id="[::1]:4321"),
        pytest.param("[fe80::1%eth0]:4321", Address("fe80::1%eth0", 4321), id="[fe80::1%eth0]:4321"),
        pytest.param("unix:/run/levity.sock", Address(path="/run/levity.sock"), id="unix:/run/levity.sock"),
        pytest.param("unix:/a b:1", Address(path="/a b:1"), id="unix:/a b:1"),
    ],
)
def test_forms(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text
    assert hash(parse_address(text)) == hash(address)
    assert address.is_unix == text.startswith("unix:")


def test_a_relative_path_is_made_absolute() -> None:
    assert parse_address("unix:x.sock").path == os.path.abspath("x.sock")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "port is missing", id="nothing"),
        pytest.param("localhost", "port is missing", id="localhost"),
        pytest.param(":4321", "host is missing", id=":4321"),
        pytest.param("[]:4321", "host is missing", id="[]:4321"),
        pytest.param("::1:4321", r"written \[::1\]:4321", id="::1:4321"),
        pytest.param("host:", "is no port", id="host:"),
        pytest.param("host:http", "is no port", id="host:http"),
        pytest.param("host:-1", "is no port", id="host:-1"),
        pytest.param("host:65536", "is no port", id="host:65536"),
        pytest.param("host:00004321", "is no port", id="host:00004321"),
        pytest.param("host:٤٣٢١", "is no port", id="host:\\u0664\\u0663\\u0662\\u0661"),
        pytest.param("host: 1", "is no port", id="host: 1"),
        pytest.param("host:1\n", "is no port", id="host:1\\n"),
        pytest.param("/run/levity.sock", "written unix:/run/levity.sock", id="/run/levity.sock"),
        pytest.param("unix:", "path is missing", id="unix:"),
        pytest.param("unix:/" + "x" * 107, "longer than the 107 bytes", id="'unix:/' + 'x' * 107"),
        pytest.param("unix:/" + "é" * 54, "longer than the 107 bytes", id="'unix:/' + '\\xe9' * 54"),
        pytest.param("unix:/a\0b", "NUL", id="unix:/a\\x00b"),
    ],
)
def test_a_text_that_is_no_address(text: str, why: str) -> None:
    with pytest.raises(BadAddress, match=why):
        parse_address(text)


@given(st.text(st.characters()) | st.text("unix:/[].0123456789", max_size=12))
@example("unix:/\ud800")
@example("[0]")
@example("[]")
@example("unix:\0")
def test_any_text_is_an_address_that_reads_back_or_refused(text: str) -> None:
    for candidate in (text, f"unix:{text}", f"{text}:4321", f"[{text}]:4321"):
        try:
            address = parse_address(candidate)
        except BadAddress:
            continue
        assert parse_address(str(address)) == address


def test_the_default_is_the_variable_then_the_socket() -> None:
    assert default_address({"LEVITY_ADDR": "[::1]:9"}) == Address("::1", 9)
    assert default_address({"LEVITY_STATE_DIR": "/s"}) == Address(path="/s/levity.sock")
    assert default_address({"LEVITY_ADDR": "", "LEVITY_STATE_DIR": "/s"}) == Address(path="/s/levity.sock")
    with pytest.raises(BadAddress):
        default_address({"LEVITY_ADDR": "nonsense"})
    with pytest.raises(BadAddress, match="longer"):
        default_address({"LEVITY_STATE_DIR": "/" + "x" * 200})


def test_the_default_is_roots_socket_where_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, state = tmp_path / "system.sock", tmp_path / "levity"
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own = Address(path=f"{state}/levity.sock")
    assert default_address(environ, str(system)) == own, "neither is there: it is told of one's own"
    system.touch()
    assert default_address(environ, str(system)) == Address(path=str(system))
    assert default_address({"LEVITY_STATE_DIR": str(state)}, str(system)) == own
    state.mkdir()
    (state / "levity.sock").touch()
    assert default_address(environ, str(system)) == own
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_address(environ, str(system)) == Address(path=str(system))
    assert default_address({"LEVITY_STATE_DIR": str(state)}, str(system)) == own


def test_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_directory({"LEVITY_STATE_DIR": "rel"}) == os.path.abspath("rel")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_directory({"XDG_STATE_HOME": "/x"}) == "/var/lib/levity"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/trent")
    assert state_directory({"XDG_STATE_HOME": "/x"}) == "/x/levity"
    assert state_directory({"XDG_STATE_HOME": "rel"}) == "/home/trent/.local/state/levity"
    assert state_directory({}) == "/home/trent/.local/state/levity"


def test_not_equal_to_what_is_no_address() -> None:
    assert Address("h", 1) != "h:1"
    assert repr(Address("h", 1)) == "<Address h:1>"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("127.0.0.1", True, id="127.0.0.1"),
        pytest.param("127.255.0.9", True, id="127.255.0.9"),
        pytest.param("::1", True, id="::1"),
        pytest.param("::1%1", True, id="::1%1"),
        pytest.param("0:0:0:0:0:0:0:1", True, id="0:0:0:0:0:0:0:1"),
        pytest.param("::ffff:127.0.0.1", True, id="::ffff:127.0.0.1"),
        pytest.param("::ffff:7f00:1", True, id="::ffff:7f00:1"),
        pytest.param("128.0.0.1", False, id="128.0.0.1"),
        pytest.param("0.0.0.0", False, id="0.0.0.0"),
        pytest.param("::", False, id="::"),
        pytest.param("::10", False, id="::10"),
        pytest.param("::127.0.0.1", False, id="::127.0.0.1"),
        pytest.param("192.0.2.127", False, id="192.0.2.127"),
        pytest.param("::ffff:192.0.2.1", False, id="::ffff:192.0.2.1"),
        pytest.param("fe80::1%lo", False, id="fe80::1%lo"),
    ],
)
def test_which_ip_addresses_are_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1.example", "127.1", "127.0.0.1\0", "\ud800", "é"])
def test_a_text_that_is_no_ip_address_is_never_loopback(host: str) -> None:
    assert not is_loopback(host)


@given(st.ip_addresses() | st.ip_addresses(network="127.0.0.0/8") | st.ip_addresses(network="::ffff:0:0/96"))
def test_loopback_is_what_the_standard_library_takes_for_it(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    plain = (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    # As the system writes an address, and as Python does.
    for text in (socket.inet_ntop(family, ip.packed), str(ip)):
        assert is_loopback(text) is plain.is_loopback
