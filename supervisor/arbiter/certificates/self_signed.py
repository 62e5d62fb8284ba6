"""The certificate that levityd makes for itself. Runs in: arbiter. Owns: certificate.pem and certificate.key.

Clients do not check who issued it: the token's proof is bound to it. Both files are in the working directory, which is
the state directory. The key is made first; if levityd is killed in between, the next one makes the certificate.
"""

import os
import socket

from levity.errors import LevityError
from supervisor.arbiter.startup_error import CONFIGURATION, StartupError
from supervisor.hostos.files import open_directory
from supervisor.security import private_files
from supervisor.settings import Tls

__all__ = ["EXTRA_IS_MISSING", "host_name", "own_certificate"]

_CERTIFICATE, _KEY = "certificate.pem", "certificate.key"
_SIZE_LIMIT = 64 * 1024
EXTRA_IS_MISSING = "the Python package cryptography, which makes certificates, is not there: pip install cryptography"


def host_name() -> str:
    """Return this host's name in the form that a certificate can have."""
    name = socket.gethostname().encode("ascii", "replace").decode("ascii").replace("?", "-")
    return name[:63] or "localhost"


def own_certificate() -> Tls:
    """Return levityd's own certificate and key, made if they are not there yet; StartupError."""
    from levity.tls import SSLError, server_context

    directory = open_directory(".")
    try:
        tls = _load(directory) or _make(directory)
        server_context(tls.certificate, tls.key)
    except (SSLError, ValueError) as error:
        raise _refused("they do not fit each other or are damaged; remove both, and new ones are made") from error
    except LevityError as error:
        raise _refused(error.message) from error
    except OSError as error:
        raise _refused(error.strerror or "the host refused") from error
    finally:
        os.close(directory)
    return tls


def _refused(detail: str) -> StartupError:
    return StartupError(f"{_CERTIFICATE} and {_KEY} in the state directory: {detail}", CONFIGURATION)


def _load(directory: int) -> Tls | None:
    certificate = private_files.read(directory, _CERTIFICATE, _SIZE_LIMIT)
    if certificate is None:
        return None
    key = private_files.read(directory, _KEY, _SIZE_LIMIT)
    if key is None:
        raise ValueError("the key is missing")
    return Tls(certificate, key)


def _make(directory: int) -> Tls:
    try:
        from supervisor.arbiter.certificates.x509 import make_key, self_signed
    except ImportError as error:
        raise StartupError(
            "off loopback levityd speaks TLS and needs a certificate: give one with --certificate and --key, or let "
            f"levityd make one, but {EXTRA_IS_MISSING}",
            CONFIGURATION,
        ) from error
    key = private_files.read(directory, _KEY, _SIZE_LIMIT)
    if key is None:
        key = make_key()
        private_files.create(directory, _KEY, key)
    certificate = self_signed(key, host_name())
    private_files.create(directory, _CERTIFICATE, certificate)
    return Tls(certificate, key)
