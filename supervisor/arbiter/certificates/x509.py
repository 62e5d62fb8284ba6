"""Make keys, certificates, authorities and revocation lists. Runs in: arbiter. Owns: nothing. Never: does I/O.

All in PEM. The only module that imports cryptography. That is an extra, so import this module only where a certificate
is to be made. `now()` is wall time in seconds.
"""

import datetime as dt
import ipaddress
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Issued", "make_authority", "make_key", "self_signed"]

Clock = Callable[[], float]

# The clock of a client may be behind that of the authority.
_BACKDATED = dt.timedelta(hours=1)
_TEN_YEARS = dt.timedelta(days=3653)
# RFC 5280, 4.1.2.5: no well-defined end.
_FOR_EVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
_NAME_LIMIT = 64  # ub-common-name


@dataclass(frozen=True)
class Issued:
    """A certificate, and what its authority has to remember: `ends_at` in seconds since 1970."""

    certificate: bytes
    serial: int
    ends_at: int


def make_key() -> bytes:
    """Return a new key: EC, P-256, without a passphrase."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def self_signed(key: bytes, host: str, now: Clock = time.time) -> bytes:
    """Return a self-signed certificate, for a server that clients know by other means than its name.

    ValueError for what is not a key. It has no end: nobody would renew it, and its end would protect nobody.
    """
    private_key = _load_key(key)
    builder = _builder(_name(host), _name(host), private_key.public_key(), _date(now), _FOR_EVER)
    builder = _for_server(builder, [host])
    return _pem(builder.sign(private_key, hashes.SHA256()))


def make_authority(key: bytes, host: str, now: Clock = time.time) -> bytes:
    """Return the certificate of an authority that issues for this host's levityd, and for nothing below it."""
    private_key = _load_key(key)
    name = _name(f"levity CA of {host}")
    builder = (
        _builder(name, name, private_key.public_key(), _date(now), _date(now) + _TEN_YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()), critical=False)
    )
    return _pem(builder.sign(private_key, hashes.SHA256()))


class Authority:
    """Issues certificates and revocation lists; ValueError for what is not a certificate, or not a key."""

    def __init__(self, certificate: bytes, key: bytes, now: Clock = time.time) -> None:
        self._now = now
        self._certificate = x509.load_pem_x509_certificate(certificate)
        self._key = _load_key(key)

    def __repr__(self) -> str:
        return f"<Authority {self._certificate.subject.rfc4514_string()}>"

    def issue_server(self, key: bytes, names: Sequence[str]) -> Issued:
        """Issue for a server that is reached by any of the names and addresses, for as long as the authority lasts."""
        private_key = _load_key(key)
        ends = self._certificate.not_valid_after_utc
        builder = _builder(_name(names[0]), self._certificate.subject, private_key.public_key(), _date(self._now), ends)
        return self._sign(_for_server(builder, names), ends)

    def issue_client(self, key: bytes, user: str, days: int) -> Issued:
        """Issue for a user: for clients only, and with no name but the common name."""
        private_key = _load_key(key)
        today = _date(self._now)
        ends = min(today + dt.timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = _builder(_name(user), self._certificate.subject, private_key.public_key(), today, ends)
        return self._sign(_for(builder, ExtendedKeyUsageOID.CLIENT_AUTH), ends)

    def list_revoked(self, revoked: Iterable[tuple[int, int]]) -> bytes:
        """Return the revocation list of these serial numbers, each with the time when it was revoked, in seconds.

        Its next update is in ten years, or at the authority's end if that is later: OpenSSL lets nobody in by a list
        whose next update is overdue, and a list is made when a certificate is revoked, not by a timer.
        """
        today = _date(self._now)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(today - _BACKDATED)
            .next_update(max(self._certificate.not_valid_after_utc, today + _TEN_YEARS))
            .add_extension(x509.CRLNumber(int(today.timestamp())), critical=False)
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
        raise ValueError("the key is of another kind")  # noqa: TRY004 - the operator gave a wrong file
    return loaded


def _date(now: Clock) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(now()), dt.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_NAME_LIMIT])])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    begins: dt.datetime,
    ends: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - _BACKDATED)
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
