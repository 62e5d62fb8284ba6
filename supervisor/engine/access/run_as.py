"""Decide as which user of the host a task runs. Runs in: engine. Owns: nothing.

Where levityd is not root, every task runs as levityd's own user. Where it is root, a task runs as the user who starts
it; only an administrator's task may run as root, or as another user. The task's process becomes that user in
supervisor/shim/run_as.py.
"""

import os

from levity.errors import Forbidden, InvalidRequest
from supervisor.engine.access.accounts import of_peer, resolve
from supervisor.security.principal import Principal
from supervisor.security.roles import Role
from supervisor.spool.records import RunAs

__all__ = ["run_as"]


def run_as(who: Principal, wanted: str | None, own_user: str, frontend_uid: int | None) -> RunAs | None:
    """Return whom a task runs as (None: as levityd itself). Forbidden, or InvalidRequest for an unknown user.

    `wanted` is the user that the start names, None if it names none. No task runs as the front-end's user: it could
    signal the front-end.
    """
    account = _run_as(who, wanted, own_user)
    if account is not None and account.uid == frontend_uid:
        raise Forbidden("tasks do not run as the user that levityd's front-end is; name another one (--user)")
    return account


def _run_as(who: Principal, wanted: str | None, own_user: str) -> RunAs | None:
    is_wanted_own = wanted in (None, who.user)
    if wanted == own_user and (who.user == own_user or who.role is Role.ADMIN):
        return None
    if os.geteuid() != 0:
        if not is_wanted_own:
            raise Forbidden(
                f"tasks run as {own_user} here, omit --user: only a levityd that root runs can start them as others"
            )
        return None
    if not is_wanted_own:
        if who.role is not Role.ADMIN:
            raise Forbidden(f"only an admin starts tasks as somebody else; {who.user} may leave --user away")
        return _account(str(wanted))
    if who.user == own_user:
        return None
    if who.uid is not None and who.gid is not None:
        return _not_root(who, of_peer(who.uid, who.gid, who.groups))
    account = resolve(who.user)
    if account is None:
        raise Forbidden(
            f"this host has no user {who.user!r}, as whom the task would run; an administrator names another (--user)"
        )
    return _not_root(who, account)


def _account(name: str) -> RunAs:
    account = resolve(name)
    if account is None:
        raise InvalidRequest(f"this host has no user {name!r} to run a task as; name another one (--user)")
    return account


def _not_root(who: Principal, account: RunAs) -> RunAs:
    # An account with uid 0 may have another name than root, and a client's certificate may name it.
    if account.uid == 0 and who.role is not Role.ADMIN:
        raise Forbidden(f"{who.user} is root on this host, and only an administrator's tasks run as root")
    return account
