"""The parts of the front-end that all sessions share. Runs in: front-end. Owns: nothing."""

import resource

from supervisor.frontend.admission.handshake import Handshake
from supervisor.frontend.admission.limits import UNAUTHENTICATED_LIMIT, AdmissionLimits
from supervisor.frontend.admission.server_tls import ServerTls
from supervisor.frontend.engine_client import EngineClient
from supervisor.frontend.operations.logs import Logs
from supervisor.hostos.inotify import Inotify
from supervisor.settings import Access

__all__ = ["Shared"]

_DESCRIPTORS_EACH = 8


class Shared:
    """The engine, the handshake and the limits of admission, and the readers of tasks' directories."""

    def __init__(self, engine: EngineClient, access: Access) -> None:
        tls = None if access.tls is None else ServerTls(access.tls, engine, has_crl=access.crl_path is not None)
        self.engine = engine
        self.handshake = Handshake(access.known, tls, engine)
        # Unauthenticated connections leave most of the descriptors to the others, however few there are.
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        unauthenticated = max(1, min(UNAUTHENTICATED_LIMIT, descriptors // _DESCRIPTORS_EACH))
        self.limits = AdmissionLimits(unauthenticated_limit=unauthenticated)
        self.inotify = Inotify()
        self.logs = Logs(self.inotify)
