"""How the exit status of a shim tells the engine that its task did not run. Used by: shim, engine.

An exit status has 8 bits: the low six hold an errno, the others whose call it was. Errors of execve(2) and chdir(2)
have numbers below 64; the larger numbers that other calls may give are told as EIO.
"""

import errno

__all__ = ["CHDIR_FLAG", "EXEC_FLAG", "NUMBER_MASK", "pack_start_status"]

NUMBER_MASK = 0x3F
CHDIR_FLAG = 0x40
EXEC_FLAG = 0x80


def pack_start_status(number: int | None, flag: int) -> int:
    """Return the exit status for an errno; `flag` is CHDIR_FLAG, EXEC_FLAG or, for the host's refusals, 0."""
    if not number or number > NUMBER_MASK:
        return errno.EIO
    return number | flag
