"""TLS over a client's connection, and messages for its failures. Runs in: client. Owns: nothing."""

import socket

from levity.errors import AuthenticationError, BadAddress, InvalidRequest, LevityError, ProtocolError
from levity.tls import SSLContext, SSLError, SSLSocket, certificate_binding, client_context

__all__ = ["start_tls"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from levity.addresses import Address
    from levity.transport.connection import Connection, Deadline
    from levity.transport.credentials import Credentials

# verify(1), X509_V_ERR_*: what is wrong with the server's certificate.
_EXPIRED, _NOT_YET_VALID, _WRONG_PURPOSE = 10, 9, 26
_OTHER_NAME = (62, 64)
_NOT_OF_THE_CA = (2, 7, 18, 19, 20, 21)

# Why a server refuses this client's certificate: alerts (RFC 8446, section 6.2) by OpenSSL's names, from ALERT_ on.
_REFUSALS = {
    "BAD_CERTIFICATE": "it is broken or not trusted",
    "UNSUPPORTED_CERTIFICATE": "it is not one for clients",
    "CERTIFICATE_REVOKED": "it is revoked",
    "CERTIFICATE_EXPIRED": "it is expired",
    "CERTIFICATE_UNKNOWN": "it is not acceptable",
    "UNKNOWN_CA": "its CA is not the server's",
    "ACCESS_DENIED": "its user may not connect",
    "DECRYPT_ERROR": "its signature is not one of the server's CA",
}
_NO_TLS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_OLD_TLS = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "HANDSHAKE_FAILURE")


def start_tls(connection: "Connection", credentials: "Credentials", deadline: "Deadline") -> bytes:
    """Speak TLS from now on; return the channel binding of the server's certificate."""
    context = _context(credentials)
    address = connection.address

    def explain(error: OSError) -> LevityError | None:
        return _explain(error, address, credentials)

    sock = connection.wrap(lambda raw: _wrapped(raw, context, address), explain)
    connection.bounded(deadline, sock.do_handshake)
    certificate = sock.getpeercert(binary_form=True)
    try:
        return certificate_binding(certificate or b"")
    except ValueError as error:
        raise ProtocolError(f"what listens at {address} has no certificate; check the address") from error


def _context(credentials: "Credentials") -> SSLContext:
    names = (credentials.ca, credentials.certificate, credentials.key)
    for name in filter(None, names):
        # OpenSSL would not say which of the files it could not read.
        try:
            open(name, "rb").close()
        except OSError as error:
            raise InvalidRequest(f"cannot read {name!r}: {error.strerror}") from error
    try:
        return client_context(*names)
    except SSLError as error:
        where = " and ".join(filter(None, names))
        raise InvalidRequest(
            f"{where}: not all of it is PEM as TLS needs it, or the key is another one's ({_words(error)})"
        ) from error
    except ValueError as error:
        raise InvalidRequest(f"{credentials.key or credentials.certificate}: {error}; give one without") from error


def _wrapped(raw: "_socket.socket", context: SSLContext, address: "Address") -> SSLSocket:
    name = address.host.partition("%")[0] if ":" in address.host else address.host.rstrip(".")
    try:
        # wrap_socket() encodes the name only when the descriptor is its own already: too late for a clean failure.
        name.encode("idna")
        sock = socket.socket(fileno=raw.detach())
        try:
            return context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
        finally:
            sock.close()  # After wrap_socket() it has no descriptor any more.
    except ValueError as error:
        raise BadAddress(f"address {str(address)!r}: no certificate can be for such a host ({error})") from error


def _explain(error: OSError, address: "Address", credentials: "Credentials") -> LevityError | None:
    """Return levity's error for one of TLS; None if it says only that the connection broke."""
    if not isinstance(error, SSLError):
        return None
    if (code := getattr(error, "verify_code", None)) is not None:
        return AuthenticationError(_distrust(code, getattr(error, "verify_message", ""), address, credentials))
    reason = error.reason or ""
    if reason in _NO_TLS:
        return ProtocolError(
            f"what listens at {address} speaks no TLS: it is no levityd, or one that listens on loopback only, where"
            " neither --tls nor a certificate (--ca, -c, LEVITY_CACERT, LEVITY_CLIENT_CERT) is to be given"
        )
    if reason.endswith(_OLD_TLS):
        return ProtocolError(f"what listens at {address} does not speak TLS 1.3 ({_words(error)}); check the address")
    refusal = _refusal(reason, address, credentials)
    return AuthenticationError(refusal) if refusal else None


def _refusal(reason: str, address: "Address", credentials: "Credentials") -> str:
    """Return why the server refuses this client's certificate; "" if the alert is about something else."""
    if reason.endswith("ALERT_CERTIFICATE_REQUIRED"):
        return (
            f"{address} asks for a certificate: give yours (-c, -k, with --ca; LEVITY_CLIENT_CERT, LEVITY_CLIENT_KEY)"
        )
    for alert, why in _REFUSALS.items():
        if reason.endswith(f"ALERT_{alert}"):
            whose = credentials.certificate or "this client"
            return f"{address} refuses {whose}: {why}; ask its operator for another certificate"
    return ""


def _distrust(code: int, message: str, address: "Address", credentials: "Credentials") -> str:
    if code in _OTHER_NAME:
        return (
            f"the certificate of what listens at {address} is for another name: use a name that is in it, or"
            " somebody else answers there; nothing was sent"
        )
    if code in _NOT_OF_THE_CA:
        why = f"is not one of the CA in {credentials.ca}: check the address and the file"
    elif code == _EXPIRED:
        why = "has expired: its operator must renew it (or the clock here is wrong)"
    elif code == _NOT_YET_VALID:
        why = "is not valid yet: see whether the clock here is right"
    elif code == _WRONG_PURPOSE:
        why = "is not one for servers: a client's may not answer there"
    else:
        why = f"is not to be trusted ({message})"
    return f"the certificate of what listens at {address} {why}; nothing was sent"


def _words(error: SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
