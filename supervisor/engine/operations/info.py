"""server.info: this levityd's version and limits, and whom it takes the client for. Runs in: engine. Owns: nothing."""

import os

from levity.protocol.messages import PROTOCOL_VERSION
from levity.version import __version__
from supervisor.engine.access.tickets import Client
from supervisor.engine.operations.context import Context
from supervisor.engine.tasks.live_task import Answer
from supervisor.security.roles import Role
from supervisor.spool.records import JsonObject

__all__ = ["info"]


def info(context: Context, client: Client, _params: JsonObject, answer: Answer) -> None:
    who = client.principal
    facts: JsonObject = {
        "version": __version__,
        "protocol": PROTOCOL_VERSION,
        "user": who.user,
        "role": who.role,
        "live": context.lookup.count_live(who),
        "log_cap": context.log_cap,
        "log_quota": context.limits.quota,
        "min_free": context.limits.min_free,
    }
    if who.role is Role.ADMIN:
        facts |= {"pid": os.getppid(), "state_dir": context.state_dir}
    answer(facts)
