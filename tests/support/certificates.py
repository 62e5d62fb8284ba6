"""Certificates for tests, all in PEM: an authority, what it signs, what it revokes. Runs in: tests. Owns: nothing."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "Certificate", "make_ca", "self_signed"]

_HOUR = timedelta(hours=1)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificate:
    """Two files: `path` has the certificate, `key_path` (mode 0600) its private key."""

    path: Path
    key_path: Path

    @property
    def pem(self) -> bytes:
        return self.path.read_bytes()

    @property
    def key_pem(self) -> bytes:
        return self.key_path.read_bytes()

    @property
    def x509(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pem)

    @property
    def der(self) -> bytes:
        return self.x509.public_bytes(serialization.Encoding.DER)


class Authority(Certificate):
    """A certificate authority. What it signs lies beside its own files, each in a file of another name."""

    def server(
        self, names: Sequence[str] = LOCAL_NAMES, *, expired: bool = False, usage: str = "server", cn: str = "levityd"
    ) -> Certificate:
        """Make a server's certificate for host names and IP addresses. `usage` may be "client", which is wrong."""
        return self._sign([cn], list(names), usage, expired)

    def client(
        self, cn: str | Sequence[str], *, expired: bool = False, usage: str = "client", names: Sequence[str] = ()
    ) -> Certificate:
        """Make a client's certificate; several common names where `cn` is a list. `usage` may be "server": wrong."""
        return self._sign([cn] if isinstance(cn, str) else list(cn), list(names), usage, expired)

    def crl(self, revoked: Sequence[Certificate] = (), *, expired: bool = False) -> Path:
        """Make the list of revoked certificates and return its path: a new file each time."""
        begin, end = _validity(expired)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.x509.subject)
        builder = builder.last_update(begin).next_update(end)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.x509.serial_number).revocation_date(begin)
            builder = builder.add_revoked_certificate(entry.build())
        path = _free(self.path.parent, "revoked", ".crl")
        path.write_bytes(builder.sign(_load_key(self), SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _sign(self, cns: Sequence[str], names: Sequence[str], usage: str, expired: bool) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(cns, self.x509.subject, key, expired)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGES[usage]]), critical=False)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_name(name) for name in names]), critical=False
            )
        return _store(self.path.parent, usage, builder.sign(_load_key(self), SHA256()), key)


_USAGES = {"server": Usage.SERVER_AUTH, "client": Usage.CLIENT_AUTH}


def make_ca(directory: Path, cn: str = "levity test CA") -> Authority:
    """Make an authority whose files are in `directory`; several may share one."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder([cn], None, key, expired=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = _store(directory, "ca", builder.sign(key, SHA256()), key)
    return Authority(made.path, made.key_path)


def self_signed(directory: Path, names: Sequence[str] = LOCAL_NAMES, *, expired: bool = False) -> Certificate:
    """Make a server's certificate that no authority signed, as levityd makes its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(["levityd"], None, key, expired)
    builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
    return _store(directory, "own", builder.sign(key, SHA256()), key)


def _builder(
    cns: Sequence[str], issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, expired: bool
) -> x509.CertificateBuilder:
    # Not checked here: a test may want what no authority would sign.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn, _validate=False) for cn in cns])
    begin, end = _validity(expired)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return builder.not_valid_before(begin).not_valid_after(end)


def _validity(expired: bool) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return (now - 48 * _HOUR, now - 24 * _HOUR) if expired else (now - _HOUR, now + 24 * _HOUR)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _load_key(authority: Certificate) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(authority.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _store(directory: Path, stem: str, signed: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Certificate:
    pem = serialization.Encoding.PEM
    path = _free(directory, stem, ".pem")
    path.write_bytes(signed.public_bytes(pem))
    key_path = path.with_suffix(".key")
    key_path.touch(0o600)
    key_path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return Certificate(path, key_path)


def _free(directory: Path, stem: str, suffix: str) -> Path:
    number = sum(1 for _ in directory.glob(f"{stem}-*{suffix}"))
    return directory / f"{stem}-{number}{suffix}"
