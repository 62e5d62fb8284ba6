"""Do what a shim does a few times before any is forked. Runs in: zygote. Owns: nothing afterwards.

Python adapts code to what it meets: it counts calls, rewrites instructions in place and remembers where it found names.
Each shim would do so again, in pages of its own; all of them share what the zygote has adapted. Measured on 3.11, for
each shim: 270 KiB less while it waits, 1 ms less for start and end. Nothing else depends on it.
"""

import os
import sys
from types import CodeType, FunctionType, ModuleType

from supervisor.hostos import kernel, locks, titles
from supervisor.shim import control, hint, main, spawn, start, stdin_pump
from supervisor.shim.exit_record import exit_record
from supervisor.shim.start import ShimContext
from supervisor.spool.files import write_record
from supervisor.spool.layout import EXIT, SPEC, TASKS
from supervisor.spool.records import DEFAULT_GRACE_S

__all__ = ["warm_up"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# What a shim runs before it waits.
_RUN_BY_ALL = (kernel, locks, titles, control, hint, main, spawn, start, stdin_pump)
_OURS = ("levity", "supervisor")
# Kept alive: else the objects that a shim makes would fill their gaps, on as many pages again.
_replaced: list[FunctionType] = []
# Python 3.11 adapts a function after its eighth call.
_ROUNDS = 16
# Not a task's id, so the engine leaves it alone.
_NAME = "rehearsal"
_NO_STREAMS = (-1, -1, -1)
_SPEC = {"id": _NAME, "argv": [_NAME], "cwd": None, "env": {_NAME: _NAME}, "grace_s": DEFAULT_GRACE_S}


def warm_up(context: ShimContext) -> None:
    """Start, watch and record tasks that end before they execute anything; leaves descriptors open."""
    _crowd_functions(_RUN_BY_ALL)
    path = f"{TASKS}/{_NAME}"
    try:
        _remove(path)
        os.mkdir(path, 0o700)
        for _ in range(_ROUNDS):
            _play(path, context)
        _remove(path)
    except OSError:
        pass  # A full disk, say: then shims need more memory, and nothing else changes.


def _remove(path: str) -> None:
    # shutil would stay in the zygote, and each fork copies the zygote's page tables.
    if os.path.exists(path):
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)


def _crowd_functions(modules: tuple[ModuleType, ...]) -> None:
    """Put copies of the functions that these modules use in their places, so that all of them lie side by side.

    Python writes to each function that it calls, and to its code. Scattered over the heap, each of them dirties a page;
    measured 30 KiB less for each shim.
    """
    used = dict.fromkeys(f for module in modules for f in vars(module).values() if isinstance(f, FunctionType))
    codes = [function.__code__.replace() for function in used]
    copies = dict(zip(used, map(_copy, used, codes), strict=True))
    _replaced.extend(used)
    for module in list(sys.modules.values()):
        if module.__name__.partition(".")[0] in _OURS:
            found = {name: f for name, f in vars(module).items() if isinstance(f, FunctionType) and f in copies}
            vars(module).update({name: copies[function] for name, function in found.items()})


def _copy(function: FunctionType, code: CodeType) -> FunctionType:
    copy = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _play(path: str, context: ShimContext) -> None:
    try:
        start.detach("levityd: warm-up")
    except PermissionError:
        pass  # setsid(2): after the first time.
    taken = start.take(path)
    assert taken is not None
    directory_fd = taken[0]
    write_record(directory_fd, SPEC, _SPEC, durable=False)
    # Here and not by the child: what Python adapts in the child is lost with it.
    context.pre_exec(directory_fd, _NO_STREAMS, os.getpid()).note()
    monitor = start.start(_NAME, taken, ShimContext(_end_at_once, context.hints, context.drain_s))
    assert monitor is not None
    monitor.run()
    write_record(directory_fd, EXIT, exit_record(monitor).to_json(), durable=False)
    start.undo(directory_fd)


def _end_at_once(_directory_fd: int, streams: tuple[int, int, int], _shim: int) -> "NoReturn":
    os.write(streams[1], b"out")
    os.write(streams[2], b"err")
    os._exit(0)
