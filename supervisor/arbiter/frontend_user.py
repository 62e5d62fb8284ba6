"""Which user the front-end becomes where levityd is root. Runs in: arbiter. Owns: nothing."""

import grp
import pwd
from collections.abc import Callable

__all__ = ["frontend_ids"]

_ACCOUNT = "levity"
# systemd takes the ids of its dynamic users from here; a name service tells which are in use (systemd.exec(5)).
_FREE_IDS = range(61184, 65520)


def frontend_ids(
    find_account: Callable[[str], pwd.struct_passwd] = pwd.getpwnam,
    find_user: Callable[[int], object] = pwd.getpwuid,
    find_group: Callable[[int], object] = grp.getgrgid,
) -> tuple[int, int]:
    """Return the user and group for the front-end: those of the account `levity`, else a number that is not in use.

    Not the user `nobody`: other processes run as it, and tasks may; they could signal the front-end.
    """
    try:
        account = find_account(_ACCOUNT)
        if account.pw_uid and account.pw_gid:
            return account.pw_uid, account.pw_gid
    except KeyError:
        pass
    free = next(
        number for number in _FREE_IDS if not _is_there(find_user, number) and not _is_there(find_group, number)
    )
    return free, free


def _is_there(find: Callable[[int], object], number: int) -> bool:
    try:
        find(number)
    except KeyError:
        return False
    return True
