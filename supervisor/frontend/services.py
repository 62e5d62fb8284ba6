"""What all sessions share. Runs in: front-end. Owns: nothing."""

from supervisor.frontend.engine_link import EngineLink
from supervisor.frontend.inputs import Inputs
from supervisor.frontend.logs import Logs
from supervisor.hostos.changes import Changes

__all__ = ["Services"]


class Services:
    """The link to the engine, and what reads and writes the directories of tasks."""

    def __init__(self, link: EngineLink) -> None:
        changes = Changes()
        self.link = link
        self.logs = Logs(changes)
        self.inputs = Inputs(changes)
