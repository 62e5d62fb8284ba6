"""What operations work with. Runs in: engine. Owns: the waits, and which client is audited as feeding which task."""

from supervisor.engine.access.audit_log import Audit
from supervisor.engine.access.authenticator import Authenticator
from supervisor.engine.access.tickets import Client
from supervisor.engine.loop import Loop
from supervisor.engine.operations.lookup import Lookup
from supervisor.engine.operations.params import prefix_of
from supervisor.engine.storage.registry import Registry
from supervisor.engine.storage.retention import Limits
from supervisor.engine.tasks.lifecycle import Tasks
from supervisor.engine.tasks.waits import Wait
from supervisor.security.roles import Right
from supervisor.spool.records import JsonObject

__all__ = ["Context"]


class Context:
    """The engine's parts, by name; `state_dir`, `log_cap` and `limits` are what levityd was told."""

    def __init__(
        self,
        loop: Loop,
        tasks: Tasks,
        registry: Registry,
        authenticator: Authenticator,
        audit: Audit,
        *,
        state_dir: str,
        log_cap: int,
        limits: Limits,
    ) -> None:
        self.loop = loop
        self.tasks = tasks
        self.registry = registry
        self.authenticator = authenticator
        self.audit = audit
        self.lookup = Lookup(registry, tasks.live, authenticator.own_user, authenticator.key)
        self.state_dir = state_dir
        self.log_cap = log_cap
        self.limits = limits
        self.waits: dict[str, Wait] = {}
        self.feeders: dict[tuple[str, str], None] = {}  # A set that keeps its order.

    def find(self, client: Client, right: Right, params: JsonObject) -> str:
        """Return the id of the task that the client names, if the client has that right to it."""
        return self.lookup.find(client.principal, right, prefix_of(params))
