"""Certificates: OpenSSL, which is what checks them later, says what they are good for."""

import calendar
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from levity.tls import server_context
from supervisor.arbiter.certificates.pem import ends_at, fingerprint
from supervisor.arbiter.certificates.x509 import Authority, Issued, make_authority, make_key, self_signed

DAY_S = 86400
PEM = self_signed(make_key(), "vm")
NAMES = ["vm.example", "localhost", "127.0.0.1", "::1"]


@dataclass
class World:
    """An authority and what it issued, each in a file of that name."""

    directory: Path
    authority: Authority
    server: Issued
    alice: Issued
    bob: Issued

    def __getitem__(self, name: str) -> str:
        return str(self.directory / name)

    def write(self, name: str, data: bytes) -> None:
        (self.directory / name).write_bytes(data)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    ca_key = make_key()
    ca = make_authority(ca_key, "vm.example")
    authority = Authority(ca, ca_key)
    made = World(
        tmp_path_factory.mktemp("world"),
        authority,
        authority.issue_server(make_key(), NAMES),
        authority.issue_client(make_key(), "alice", 365),
        authority.issue_client(make_key(), "bob", 365),
    )
    made.write("ca", ca)
    for name in ("server", "alice", "bob"):
        made.write(name, getattr(made, name).certificate)
    made.write("crl", authority.list_revoked([(made.alice.serial, int(time.time()))]))
    made.write("empty-crl", authority.list_revoked([]))
    return made


def openssl(*arguments: str) -> str:
    """Return what openssl says; "" where it says no."""
    done = subprocess.run(
        ["openssl", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout + done.stderr if done.returncode == 0 else ""


def is_good(world: World, name: str, *more: str) -> bool:
    return bool(openssl("verify", "-x509_strict", "-CAfile", world["ca"], *more, world[name]))


@pytest.mark.parametrize(
    ("name", "purpose", "expected"),
    [
        ("server", "sslserver", True),
        ("server", "sslclient", False),
        ("alice", "sslclient", True),
        ("alice", "sslserver", False),
    ],
)
def test_is_good_for_one_purpose(world: World, name: str, purpose: str, *, expected: bool) -> None:
    assert is_good(world, name, "-purpose", purpose) == expected


@pytest.mark.parametrize("name", ["vm.example", "localhost"])
def test_the_servers_names(world: World, name: str) -> None:
    assert is_good(world, "server", "-verify_hostname", name)
    assert not is_good(world, "server", "-verify_hostname", f"x{name}")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_servers_addresses(world: World, address: str) -> None:
    assert is_good(world, "server", "-verify_ip", address)
    assert not is_good(world, "server", "-verify_ip", "127.0.0.2")


def test_a_user_has_one_name(world: World) -> None:
    assert openssl("x509", "-in", world["alice"], "-noout", "-subject", "-nameopt", "RFC2253") == "subject=CN=alice\n"
    assert "Alternative" not in openssl("x509", "-in", world["alice"], "-noout", "-text")


def test_only_a_revoked_certificate_is_refused(world: World) -> None:
    revocation = ("-crl_check", "-CRLfile")
    assert not is_good(world, "alice", *revocation, world["crl"])
    assert is_good(world, "bob", *revocation, world["crl"])
    assert is_good(world, "alice", *revocation, world["empty-crl"])


@pytest.mark.parametrize(("name", "years"), [("ca", 10), ("server", 10), ("alice", 1)])
def test_how_long(world: World, name: str, years: int) -> None:
    now = int(time.time())
    for at, expected in (
        (-3000, True),
        (-4000, False),
        (years * 365 * DAY_S - DAY_S, True),
        ((years * 366 + 3) * DAY_S, False),
    ):
        assert is_good(world, name, "-attime", str(now + at)) == expected


def test_a_revocation_list_lasts(world: World) -> None:
    """With a list that is past its next update, no client would be let in."""
    at = str(int(time.time()) + 3650 * DAY_S)
    text = openssl("crl", "-in", world["crl"], "-noout", "-nextupdate")
    assert calendar.timegm(time.strptime(text.strip(), "nextUpdate=%b %d %H:%M:%S %Y GMT")) > int(at)


def test_no_certificate_outlasts_its_authority(world: World) -> None:
    long = world.authority.issue_client(make_key(), "carol", 100_000)
    assert long.ends_at == ends_at((world.directory / "ca").read_bytes())


def test_an_authority_has_none_below(world: World, tmp_path: Path) -> None:
    text = openssl("x509", "-in", world["ca"], "-noout", "-text").replace("\n", " ")
    assert "Basic Constraints: critical                 CA:TRUE, pathlen:0" in text
    assert "Key Usage: critical                 Certificate Sign, CRL Sign" in text
    assert openssl("verify", "-x509_strict", "-CAfile", world["server"], world["alice"]) == ""
    (tmp_path / "key").write_bytes(make_key())
    with pytest.raises(ValueError, match="passphrase"):
        Authority((world.directory / "ca").read_bytes(), locked_key(tmp_path))


def locked_key(tmp_path: Path) -> bytes:
    openssl("ec", "-aes256", "-passout", "pass:x", "-in", str(tmp_path / "key"), "-out", str(tmp_path / "locked"))
    return (tmp_path / "locked").read_bytes()


def test_a_self_signed_certificate(tmp_path: Path) -> None:
    path = tmp_path / "own"
    path.write_bytes(self_signed(make_key(), "vm.example"))
    own = ("verify", "-CAfile", str(path), "-attime", "9999999999")
    assert openssl(*own, "-purpose", "sslserver", "-verify_hostname", "vm.example", str(path))
    assert openssl(*own, "-purpose", "sslclient", str(path)) == ""
    assert "CA:FALSE" in openssl("x509", "-in", str(path), "-noout", "-text")


def test_keys_are_of_p_256(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(make_key())
    assert "prime256v1" in openssl("ec", "-in", str(tmp_path / "key"), "-noout", "-text")


# Read without the means to make one


@pytest.mark.parametrize("name", ["ca", "server", "alice", "own"])
def test_what_is_read(world: World, name: str) -> None:
    pem = self_signed(make_key(), "vm") if name == "own" else (world.directory / name).read_bytes()
    assert ends_at(pem) == x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    assert ends_at(b"talk\n" + pem + (world.directory / "ca").read_bytes()) == ends_at(pem)
    world.write("any", pem)
    assert fingerprint(pem) in openssl("x509", "-in", world["any"], "-noout", "-fingerprint", "-sha256")


@given(st.data())
def test_whatever_a_certificate_holds_it_is_a_time_or_no_certificate(data: st.DataObject) -> None:
    """Bytes changed, cut off, or nothing that ever was one."""
    der = bytearray(x509.load_pem_x509_certificate(PEM).public_bytes(Encoding.DER))
    at, byte = data.draw(st.integers(0, len(der) - 1)), data.draw(st.integers(0, 255))
    der[at] = byte
    cut = data.draw(st.integers(0, len(der)))
    for content in (bytes(der), bytes(der[:cut]), data.draw(st.binary(max_size=40))):
        try:
            assert isinstance(ends_at(pem_of(content)), int | float)
        except ValueError:
            pass


@pytest.mark.parametrize(
    "text",
    [b"", b"MIIB", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"],
    ids=["empty", "without its frame", "not in base64"],
)
def test_a_text_that_is_not_a_certificate(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        ends_at(text)


def pem_of(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


def test_lists_only(world: World) -> None:
    """OpenSSL would trust a certificate that comes with them."""
    crl, ca = (world.directory / "crl").read_bytes(), (world.directory / "ca").read_bytes()
    key = make_key()
    certificate = self_signed(key, "vm")
    server_context(certificate, key, ca, crl)
    server_context(certificate, key, ca, crl + b"talk" + crl)
    for other in (
        b"",
        ca,
        crl + ca,
        ca + crl,
        crl + ca.replace(b" CERT", b" X509 CERT"),
        crl + ca.replace(b" CERT", b" TRUSTED CERT"),
    ):
        with pytest.raises(ValueError, match="revocation lists"):
            server_context(certificate, key, ca, other)
