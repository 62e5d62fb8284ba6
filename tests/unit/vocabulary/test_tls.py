"""Bindings of real certificates, and which of them are for clients. Runs in: pytest."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levity.tls import certificate_binding, is_for_clients, own_binding
from tests.support.certificates import make_ca


def openssl_certificate(directory: Path, digest: str, *extensions: str) -> bytes:
    """Return a self-signed certificate in DER as openssl makes it."""
    key, made = directory / "key", directory / "der"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", f"-{digest}"]
    options = [word for extension in extensions for word in ("-addext", extension)]
    subprocess.run(
        [*command, *options, "-keyout", key, "-outform", "DER", "-out", made], check=True, capture_output=True
    )
    return made.read_bytes()


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512", "sha224"])
def test_the_binding_is_by_the_hash_of_the_signature(tmp_path: Path, digest: str) -> None:
    certificate = openssl_certificate(tmp_path, digest)
    expected = b"tls-server-end-point:" + hashlib.new(digest, certificate).digest()
    assert certificate_binding(certificate) == expected


def test_a_server_is_bound_to_the_first_of_its_certificates(tmp_path: Path) -> None:
    ca = make_ca(tmp_path)
    server = ca.server()
    chain = b"talk\n" + server.pem + ca.pem
    assert own_binding(chain) == certificate_binding(server.der)
    with pytest.raises(ValueError, match=r"."):
        own_binding(b"none")


def test_only_a_certificate_for_clients_is_a_clients(tmp_path: Path) -> None:
    """OpenSSL takes one without an extended key usage, as many home-made servers have, and the CA's own."""
    ca = make_ca(tmp_path)
    assert is_for_clients(ca.client("alice").der)
    assert not is_for_clients(ca.server().der)
    assert not is_for_clients(ca.der)
    assert not is_for_clients(openssl_certificate(tmp_path, "sha256", "basicConstraints=critical,CA:FALSE"))
    usage = "extendedKeyUsage=serverAuth,clientAuth"
    assert is_for_clients(openssl_certificate(tmp_path, "sha256", "basicConstraints=CA:FALSE", usage))
    assert not is_for_clients(openssl_certificate(tmp_path, "sha256", "basicConstraints=CA:TRUE", usage))


@given(st.binary(max_size=200))
def test_anything_else_is_no_certificate(data: bytes) -> None:
    for read in (certificate_binding, is_for_clients):
        with pytest.raises(ValueError, match="not a certificate"):
            read(data)
