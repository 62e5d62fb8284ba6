"""What the registry holds, and how a row of it shows that it is whole. Runs in: engine. Owns: nothing.

Never: does I/O.
"""

import json
from binascii import crc32

from supervisor.spool.records import ExitRecord, Spec

__all__ = ["Logs", "RegistryCorruptError", "Row", "StoredRow", "logs_of", "owner_key", "pack_row", "unpack_row"]

# id, over, spec, outcome, crc, owner
StoredRow = tuple[str, int, str, str | None, int, str]

# SQLite can hold the sum of two numbers below this.
NUMBER_LIMIT = 2**62


class RegistryCorruptError(Exception):
    """The file is damaged, or no registry at all."""


class Row:
    """What the registry holds of one task: its spec, and its exit record once it is over."""

    __slots__ = ("id", "outcome", "spec")

    def __init__(self, id: str, spec: Spec, outcome: ExitRecord | None) -> None:
        self.id = id
        self.spec = spec
        self.outcome = outcome

    @property
    def owner(self) -> str:
        """The user who started the task; empty where the spec names none, as in levity before there were owners."""
        return self.spec.owner or ""


class Logs:
    """How many bytes of the output of a task that is over are stored, and when it ended."""

    __slots__ = ("ended_ns", "id", "stored")

    def __init__(self, id: str, stored: int, ended_ns: int) -> None:
        self.id = id
        self.stored = stored
        self.ended_ns = ended_ns


def owner_key(owner: str) -> str:
    """Return how the file writes an owner: as the name itself where that is ASCII, else in JSON's escapes.

    The name of a local account may be any bytes, and SQLite takes no lone surrogate.
    """
    return json.dumps(owner)[1:-1]


def pack_row(row: Row, spec_json: str | None = None) -> StoredRow:
    """Return the columns of a row; `spec_json` is how its spec was written before, if that is known."""
    over, spec = int(row.outcome is not None), spec_json or json.dumps(row.spec.to_json())
    outcome = None if row.outcome is None else json.dumps(row.outcome.to_json())
    return row.id, over, spec, outcome, _crc(row.id, over, spec, outcome), owner_key(row.owner)


def unpack_row(task_id: str, over: int, spec: str, outcome: str | None, crc: int, owner: str | None = None) -> Row:
    """Return the row that has these columns; RegistryCorruptError if they are not as they were written.

    The column `owner` is for finding a row; the spec says who the owner is. Files before version 3 have no such column.
    """
    try:
        if _crc(task_id, over, spec, outcome) != crc:
            raise RegistryCorruptError(f"task {task_id}: the checksum is wrong")
        record = json.loads(spec)
        asked, end = Spec.from_json(record), ExitRecord.from_json(json.loads(outcome or "null"))
    except ValueError as error:
        raise RegistryCorruptError(f"task {task_id}: {error}") from error
    if (end is None) != (outcome is None):
        raise RegistryCorruptError(f"task {task_id}: an exit record is not whole")
    if asked is None:
        # It is as it was written, so by another version of levity: the others of the registry are none the worse.
        asked = Spec.damaged(task_id, record)
    row = Row(task_id, asked, end)
    if owner is not None and owner != owner_key(row.owner):
        raise RegistryCorruptError(f"task {task_id}: its owner is not the one its spec says")
    return row


def _crc(task_id: str, over: int, spec: str, outcome: str | None) -> int:
    """Return the checksum by which a flipped bit in a row shows: SQLite checks its structure, not its contents."""
    return crc32(f"{task_id} {over} {spec} {outcome}".encode())


def logs_of(task_id: str, outcome: ExitRecord) -> Logs:
    """Return what is stored of the output of a task that is over, by its exit record."""
    return Logs(task_id, _number(outcome.stored_bytes), _number(outcome.ended_ns))


def _number(value: int) -> int:
    """Return a number of a record; 0 if levity cannot have written it."""
    return value if 0 <= value < NUMBER_LIMIT else 0
