"""Bring registry and directories together when an engine starts. Runs in: engine. Owns: nothing."""

import os

from supervisor.engine.storage import task_directory as directory
from supervisor.engine.storage.registry import Registry, RegistryCorruptError, RegistryUnusableError, Row, set_aside
from supervisor.log import log
from supervisor.spool.files import load_record, open_task
from supervisor.spool.layout import EXIT, LOCK, TASKS
from supervisor.spool.records import ExitRecord, RecordVersionError, Spec

__all__ = ["live_specs", "open_registry", "quarantine_registry"]

_REGISTRY = "registry.db"
# What is not committed takes memory: 300 MB for 100 000 tasks.
_ROWS_A_COMMIT = 1000


def open_registry() -> Registry:
    """Open the registry, making it anew if it is damaged; bring in every task it does not know."""
    os.makedirs(TASKS, mode=0o700, exist_ok=True)
    try:
        registry = Registry(_REGISTRY)
        return _complete(registry)
    except RegistryCorruptError as error:
        quarantine_registry(error)
        return _complete(Registry(_REGISTRY))
    except RegistryUnusableError as error:
        # No space, no permission, or another program's lock. Nothing is lost: the directories are the truth.
        log(f"levityd: {_REGISTRY} cannot be used ({error}): it is kept in memory until levityd is started again")
        return _complete(Registry(":memory:"))


def quarantine_registry(error: RegistryCorruptError) -> None:
    """Move a damaged registry aside; the next `open_registry` makes it anew."""
    aside = set_aside(_REGISTRY)
    log(f"levityd: {_REGISTRY} was damaged ({error}): moved to {aside}, made anew from {TASKS}/")


def _complete(registry: Registry) -> Registry:
    rows: list[tuple[Row, int]] = []
    for task_id in set(directory.task_ids()) - registry.all_ids():
        try:
            row = _read_task(task_id)
            # Counted: the exit record does not know of output that was removed later.
            logs_bytes = directory.stored_bytes(task_id) if row is not None and row.outcome is not None else 0
        except (RecordVersionError, OSError) as error:
            log(f"levityd: task {task_id} cannot be read and is left alone: {error}")
            continue
        if row is None:
            directory.remove(task_id)  # Half made: no client was given this id.
        else:
            rows.append((row, logs_bytes))
    # Lists follow the order in which rows are made.
    for count, (row, logs_bytes) in enumerate(sorted(rows, key=lambda pair: pair[0].spec.accepted_ns or 0), 1):
        registry.put(row, logs_bytes, is_new=True)
        if count % _ROWS_A_COMMIT == 0:
            registry.commit()
    registry.commit()
    return registry


def _read_task(task_id: str) -> Row | None:
    directory_fd = open_task(task_id)
    try:
        spec, outcome = directory.load_spec(task_id), ExitRecord.from_json(load_record(directory_fd, EXIT))
        was_taken = os.access(LOCK, os.F_OK, dir_fd=directory_fd)
    finally:
        os.close(directory_fd)
    if spec is None and outcome is None and not was_taken:
        return None  # Once a shim has had it, it is kept though its spec is damaged: it may run, and has output.
    return Row(task_id, spec or Spec.damaged(task_id), outcome)


def live_specs(registry: Registry) -> list[Spec]:
    """Return the specs of all tasks that may still be running."""
    return [row.spec for row in registry.live()]
