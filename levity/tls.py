"""TLS 1.3 and channel bindings of certificates. Runs in: client, arbiter, front-end. Owns: nothing.

The only module that imports ssl, which takes 30 ms: so it is imported only where TLS is spoken.
"""

import hashlib
import os
import re
import ssl

from levity.der import BOOLEAN, extensions, fields, value, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "WANTS",
    "SSLContext",
    "SSLEOFError",
    "SSLError",
    "SSLSocket",
    "certificate_binding",
    "certificate_facts",
    "client_context",
    "is_for_clients",
    "own_binding",
    "server_context",
]

SSLContext = ssl.SSLContext
SSLEOFError = ssl.SSLEOFError
SSLError = ssl.SSLError
SSLSocket = ssl.SSLSocket
# Raised on a non-blocking connection: not now.
WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)

# Object identifiers, DER without tag and length: id-ce-extKeyUsage, id-ce-basicConstraints, id-kp-clientAuth.
_EXTENDED_KEY_USAGE, _BASIC_CONSTRAINTS = bytes.fromhex("551d25"), bytes.fromhex("551d13")
_CLIENT_AUTH = bytes.fromhex("2b06010505070302")
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
# The last bytes of the DER of the signature algorithms that RFC 5929, section 4.1, gives another hash than SHA-256.
_HASHES = {
    bytes.fromhex("2a864886f70d01010c"): "sha384",  # sha384WithRSAEncryption
    bytes.fromhex("2a864886f70d01010d"): "sha512",  # sha512WithRSAEncryption
    bytes.fromhex("2a864886f70d01010e"): "sha224",  # sha224WithRSAEncryption
    bytes.fromhex("2a8648ce3d040301"): "sha224",  # ecdsa-with-SHA224
    bytes.fromhex("2a8648ce3d040303"): "sha384",  # ecdsa-with-SHA384
    bytes.fromhex("2a8648ce3d040304"): "sha512",  # ecdsa-with-SHA512
}


def certificate_binding(certificate: bytes) -> bytes:
    """Return the binding of a TLS connection: the server's certificate (DER), hashed (RFC 5929, tls-server-end-point).

    The RFC leaves the hash open for Ed25519 and RSA-PSS: here it is SHA-256. ValueError if it is no certificate.
    """
    name = _HASHES.get(_signature_algorithm(certificate), "sha256")
    return b"tls-server-end-point:" + hashlib.new(name, certificate).digest()


def own_binding(certificates: bytes) -> bytes:
    """Return the binding of a server with these certificates (PEM, its own first); ValueError if there is none."""
    end = "-----END CERTIFICATE-----"
    first, found, _rest = certificates.decode("ascii", "replace").partition(end)
    return certificate_binding(ssl.PEM_cert_to_DER_cert(first[first.find("-----BEGIN CERT") :] + found))


def certificate_facts(connection: ssl.SSLSocket) -> tuple[list[str], float, bool]:
    """Return of a client's verified certificate: common names, end (seconds since the epoch), if it is for clients."""
    found = connection.getpeercert() or {}
    subject: Any = found.get("subject", ())
    names = [str(value) for parts in subject for key, value in parts if key == "commonName"]
    is_clients = is_for_clients(connection.getpeercert(binary_form=True) or b"")
    return names, float(ssl.cert_time_to_seconds(str(found.get("notAfter", "")))), is_clients


def _signature_algorithm(certificate: bytes) -> bytes:
    """Return the object identifier in Certificate.signatureAlgorithm (RFC 5280, 4.1), without tag and length."""
    _tag, algorithm = fields(certificate)[1]
    _tag, oid = value(certificate, algorithm[0])
    return certificate[slice(*oid)]


def is_for_clients(certificate: bytes) -> bool:
    """Whether a certificate is for clients by its extended key usage, and is no CA's.

    OpenSSL also takes a certificate without an extended key usage: any server's, and the CA's own.
    """
    found = extensions(certificate)
    usages, constraints = found.get(_EXTENDED_KEY_USAGE), found.get(_BASIC_CONSTRAINTS)
    if usages is None:
        return False
    said = {usages[slice(*span)] for _tag, span in values(usages, value(usages, 0)[1])}
    # The first field of the constraints, cA, is left out where it is false.
    is_authority = constraints is not None and any(
        tag == BOOLEAN and constraints[span[0]] for tag, span in values(constraints, value(constraints, 0)[1])
    )
    return _CLIENT_AUTH in said and not is_authority


def client_context(ca: str | None = None, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Return a client's TLS context; the files are PEM. OSError or SSLError if they cannot be used.

    With a `ca` the server's certificate and name are checked. Without, neither is: then the token's proof, which is
    bound to the certificate, must show whose certificate it is.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    return context


def server_context(
    certificate: bytes, key: bytes, client_ca: bytes | None = None, crl: bytes | None = None
) -> ssl.SSLContext:
    """Return a server's TLS context; all is PEM. SSLError or ValueError (a key with a passphrase) if it cannot be used.

    With a `client_ca`, clients must have a certificate of that CA, made for clients; with a `crl`, an unrevoked one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    # A resumed session would skip the checks.
    context.num_tickets = 0
    with _as_file(certificate) as certificate_path, _as_file(key) as key_path:
        context.load_cert_chain(certificate_path, key_path, password=_refuse_password)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        with _as_file(client_ca) as path:
            context.load_verify_locations(path)
        if crl is not None:
            if set(_BLOCK.findall(crl)) != {b"X509 CRL"}:
                # OpenSSL would trust a certificate that it found there.
                raise ValueError("it must hold revocation lists in PEM, nothing else")
            with _as_file(crl) as path:
                context.load_verify_locations(path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _refuse_password() -> str:
    raise ValueError("the key has a passphrase")


class _as_file:  # noqa: N801 - a context manager without contextlib
    """Give OpenSSL, which reads only files, a file name for bytes whose file this process may not open."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fd = -1

    def __enter__(self) -> str:
        self._fd = os.memfd_create("levity", os.MFD_CLOEXEC)
        os.write(self._fd, self._data)
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_exception: object) -> None:
        os.close(self._fd)
