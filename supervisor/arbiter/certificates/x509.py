"""Certificates, made: keys, authorities, what they issue and what they take back. Runs in: arbiter. Owns: nothing.

Never: does I/O. All in PEM. The only module that imports cryptography, which is an extra: it is itself imported only
where a certificate is to be made.
"""

import datetime as dt
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Issued", "make_authority", "make_key", "self_signed"]

# Clocks differ.
_BACKDATED = dt.timedelta(hours=1)
_TEN_YEARS = dt.timedelta(days=3653)
# RFC 5280, 4.1.2.5: no well-defined end.
_FOR_EVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
_NAME_LIMIT = 64  # ub-common-name


@dataclass(frozen=True)
class Issued:
    """A certificate, and what an authority has to remember of it."""

    certificate: bytes
    serial: int
    ends_at: int


def make_key() -> bytes:
    """Return a new key: EC, P-256, without a passphrase."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def self_signed(key: bytes, host: str) -> bytes:
    """Return a certificate of nobody's but this key's, for a server that clients know by other means than its name.

    ValueError if it is no key. It has no end: nobody would be there to renew it, and its end would protect nobody.
    """
    private_key = _load_key(key)
    builder = _builder(_name(host), _name(host), private_key.public_key(), _FOR_EVER)
    builder = _for_server(builder, [host])
    return _pem(builder.sign(private_key, hashes.SHA256()))


def make_authority(key: bytes, host: str) -> bytes:
    """Return the certificate of an authority that issues for this host's levityd, and for nothing below it."""
    private_key = _load_key(key)
    name = _name(f"levity CA of {host}")
    builder = (
        _builder(name, name, private_key.public_key(), _now() + _TEN_YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()), critical=False)
    )
    return _pem(builder.sign(private_key, hashes.SHA256()))


class Authority:
    """What makes certificates and revocation lists; ValueError if certificate or key is none."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self._certificate = x509.load_pem_x509_certificate(certificate)
        self._key = _load_key(key)

    def __repr__(self) -> str:
        return f"<Authority {self._certificate.subject.rfc4514_string()}>"

    def issue_server(self, key: bytes, names: Sequence[str]) -> Issued:
        """Issue for a server that is reached by any of the names and addresses, for as long as the authority lasts."""
        private_key = _load_key(key)
        ends = self._certificate.not_valid_after_utc
        builder = _builder(_name(names[0]), self._certificate.subject, private_key.public_key(), ends)
        return self._sign(_for_server(builder, names), ends)

    def issue_client(self, key: bytes, user: str, days: int) -> Issued:
        """Issue for a user: for clients only, and with no name but the common name."""
        private_key = _load_key(key)
        ends = min(_now() + dt.timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = _builder(_name(user), self._certificate.subject, private_key.public_key(), ends)
        return self._sign(_for(builder, ExtendedKeyUsageOID.CLIENT_AUTH), ends)

    def list_revoked(self, revoked: Iterable[tuple[int, int]]) -> bytes:
        """Return the list of what is revoked: serial numbers, and when that was in seconds.

        The next update is ten years away, or the authority's end. OpenSSL lets nobody in by a list that is past it, and
        this one is made anew when somebody is revoked, not by a timer.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(_now() - _BACKDATED)
            .next_update(max(self._certificate.not_valid_after_utc, _now() + _TEN_YEARS))
            .add_extension(x509.CRLNumber(int(_now().timestamp())), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        for serial, at in revoked:
            when = dt.datetime.fromtimestamp(at, dt.UTC)
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _sign(self, builder: x509.CertificateBuilder, ends: dt.datetime) -> Issued:
        builder = builder.add_extension(self._key_identifier(), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(_pem(certificate), certificate.serial_number, int(ends.timestamp()))

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())


def _load_key(key: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        loaded = serialization.load_pem_private_key(key, None)
    except TypeError:
        raise ValueError("the key has a passphrase") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is of another kind")  # noqa: TRY004 - to whoever gave the file, it is a wrong value
    return loaded


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_NAME_LIMIT])])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, ends: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _BACKDATED)
        .not_valid_after(ends)
    )


def _for_server(builder: x509.CertificateBuilder, names: Sequence[str]) -> x509.CertificateBuilder:
    alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
    return _for(builder, ExtendedKeyUsageOID.SERVER_AUTH).add_extension(alternatives, critical=False)


def _for(builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
