"""What all sessions share. Runs in: front-end. Owns: nothing."""

from supervisor.frontend.door import Door
from supervisor.frontend.engine_link import EngineLink
from supervisor.frontend.gate import Gate
from supervisor.frontend.logs import Logs
from supervisor.frontend.secure import Secure
from supervisor.hostos.changes import Changes
from supervisor.settings import Access

__all__ = ["Services"]


class Services:
    """The link to the engine, who gets in and how many, and what reads the directories of tasks."""

    def __init__(self, link: EngineLink, access: Access) -> None:
        secure = None if access.tls is None else Secure(access.tls, link, has_crl=access.crl_path is not None)
        self.link = link
        self.door = Door(access.known, secure, link)
        self.gate = Gate()
        self.changes = Changes()
        self.logs = Logs(self.changes)
