"""What all sessions share. Runs in: front-end. Owns: nothing."""

import resource

from supervisor.frontend.admission.handshake import Door
from supervisor.frontend.admission.limits import STRANGERS_LIMIT, Gate
from supervisor.frontend.admission.server_tls import Secure
from supervisor.frontend.engine_client import EngineLink
from supervisor.frontend.operations.logs import Logs
from supervisor.hostos.inotify import Inotify
from supervisor.settings import Access

__all__ = ["Services"]

_DESCRIPTORS_A_STRANGER = 8


class Services:
    """The link to the engine, who gets in and how many, and what reads the directories of tasks."""

    def __init__(self, link: EngineLink, access: Access) -> None:
        secure = None if access.tls is None else Secure(access.tls, link, has_crl=access.crl_path is not None)
        self.link = link
        self.door = Door(access.known, secure, link)
        # Strangers shall leave most of the descriptors to those who are known, however few there are.
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.gate = Gate(strangers_limit=max(1, min(STRANGERS_LIMIT, descriptors // _DESCRIPTORS_A_STRANGER)))
        self.changes = Inotify()
        self.logs = Logs(self.changes)
