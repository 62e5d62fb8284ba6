"""A scripted levityd that speaks TLS. Owns: what FakeServer does."""

import ssl
from collections.abc import Callable
from pathlib import Path

from levity.tls import server_context
from tests.support.certificates import Authority, Certificate
from tests.support.fake_server import FakeServer, Script, answering, record

__all__ = ["tls_server"]

Context = Callable[[ssl.SSLContext], None]


def tls_server(
    certificate: Certificate,
    *scripts: Script,
    client_ca: Authority | None = None,
    crl: Path | None = None,
    host: str = "127.0.0.1",
    change: Context = lambda _: None,
) -> FakeServer:
    """Make a server that speaks TLS, with a `client_ca` the kind that wants certificates."""
    context = server_context(
        certificate.pem, certificate.key_pem, client_ca.pem if client_ca else None, crl.read_bytes() if crl else None
    )
    change(context)
    auth = "certificate" if client_ca else "token"
    return FakeServer(
        *(scripts or [answering(record())]), host=host, tls=context, certificate=certificate.pem, auth=auth
    )
