"""The audit: a line in audit.log for each request, with its user and the decision. Runs in: engine. Owns: its file.

Names and arguments come from clients, but a line is always one line of ASCII, and not long. No token and no environment
is ever handed to this module.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence

from levity.timestamps import rfc3339
from supervisor.engine.access.audit_file import AuditFile
from supervisor.engine.access.tickets import Client
from supervisor.log import log

__all__ = ["Audit", "note"]

_SIZE_LIMIT = 16 * 1024 * 1024
_KEEP = 8
_TEXT_LIMIT = 256
_ARGV_LIMIT = 4096
# Lines that wait for the disk: 30 MB at the worst, less than one in practice.
_PENDING_LIMIT = 1000
# Any peer can have an authentication refused: so many at once are written, and then one each 0.1 s.
_BURST = 100
_REFILL_NS = 100_000_000


class Audit:
    """Writes lines; never raises: lines that the disk does not take now wait in memory for the next call.

    `now()` is wall time and `monotonic()` is not, both in nanoseconds. Lines beyond the limits are dropped and counted;
    the next line that is written has their number, as `dropped`.
    """

    def __init__(
        self,
        path: str = "audit.log",
        now: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
        *,
        size_limit: int = _SIZE_LIMIT,
        keep: int = _KEEP,
    ) -> None:
        self._path = path
        self._now = now
        self._monotonic = monotonic
        self._file = AuditFile(path, size_limit, keep)
        self._pending: deque[bytes] = deque()
        self._dropped = 0
        self._is_out = False
        # Each refusal that is written costs _REFILL_NS of this.
        self._credit_ns = _BURST * _REFILL_NS
        self._credited_at = monotonic()

    def __repr__(self) -> str:
        return f"<Audit {len(self._pending)} lines pending, {self._dropped} dropped>"

    @property
    def has_pending(self) -> bool:
        """Whether lines wait for the disk."""
        return bool(self._pending)

    def write(
        self,
        operation: str,
        *,
        peer: str,
        user: str | None,
        role: str | None,
        task: object = None,
        argv: object = None,
        decision: str | None,
        reason: str | None = None,
    ) -> None:
        """Write that `user`, from `peer`, asked for `operation`; `decision` is "allowed" or "denied".

        `task` and `argv` may be whatever a client sent as such.
        """
        event: dict[str, object] = {
            "time": rfc3339(self._now()),
            "mono": self._monotonic(),
            "peer": _capped(peer),
            "user": _capped(user),
            "role": _capped(role),
            "op": _capped(operation),
            "task": _capped(task),
            "argv": None,
            "decision": _capped(decision),
            "reason": _capped(reason),
        }
        if isinstance(argv, list | tuple):
            words, cut_words, cut_bytes = _capped_argv(argv)
            event["argv"] = words
            if cut_bytes or cut_words:
                event["argv_cut"] = {"words": cut_words, "bytes": cut_bytes}
        can_write = self.retry()
        if len(self._pending) >= _PENDING_LIMIT:
            self._dropped += 1
            return
        if self._dropped:
            event["dropped"] = self._dropped
            self._dropped = 0
        self._pending.append(json.dumps(event, separators=(",", ":")).encode("ascii")[1:])
        if can_write:
            self.retry()

    def write_refused(self, *, peer: str, user: str | None = None, reason: str) -> None:
        """Write that an authentication was refused, or count it if there are too many of them."""
        if self._take_credit():
            self.write("authenticate", peer=peer, user=user, role=None, decision="denied", reason=reason)
        else:
            self._dropped += 1

    def flush_dropped(self) -> None:
        """Write how many lines were dropped since the last line, if any were and it is not too soon."""
        if self._dropped and self._take_credit():
            self._tell_dropped()

    def retry(self) -> bool:
        """Try to write the lines that wait for the disk; return whether none waits any more."""
        while self._pending:
            try:
                self._file.append(self._pending[0])
            except OSError as error:
                if not self._is_out:
                    log(f"levityd: {self._path} cannot be written ({error.strerror}): its lines wait in memory")
                self._is_out = True
                return False
            self._pending.popleft()
        self._is_out = False
        return True

    def close(self) -> None:
        """Write the lines that can be written, and close the file."""
        if self._dropped:
            self._tell_dropped()
        self.retry()
        self._file.close()

    def _tell_dropped(self) -> None:
        self.write("audit", peer="", user=None, role=None, decision=None, reason="lines were dropped")

    def _take_credit(self) -> bool:
        now = self._monotonic()
        self._credit_ns = min(_BURST * _REFILL_NS, self._credit_ns + now - self._credited_at)
        self._credited_at = now
        if self._credit_ns < _REFILL_NS:
            return False
        self._credit_ns -= _REFILL_NS
        return True


def note(
    audit: Audit, client: Client, operation: str, task: object = None, argv: object = None, refused: str = ""
) -> None:
    """Write a request of a client; `refused` is why it was refused, "" if it was allowed."""
    who, decision = client.principal, "denied" if refused else "allowed"
    audit.write(
        operation,
        peer=client.peer,
        user=who.user,
        role=who.role,
        task=task,
        argv=argv,
        decision=decision,
        reason=refused or None,
    )


def _capped(value: object) -> str | None:
    if value is None:
        return None
    text = _text(value)
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 3] + "..."


def _text(value: object) -> str:
    return value if isinstance(value, str) else f"<{type(value).__name__}>"


def _capped_argv(argv: Sequence[object]) -> tuple[list[str], int, int]:
    """Return the words that there is room for, how many there is none for, and how many bytes of all are left out.

    The last word may be a part of one. Room is counted as JSON takes it: a control character needs six bytes.
    """
    words: list[str] = []
    room = _ARGV_LIMIT
    for number, value in enumerate(argv):
        word = _text(value)
        room -= 3  # Quotes and comma.
        part = _fitting(word, room)
        if part is None:
            return words, len(argv) - number, sum(map(_size, argv[number:]))
        words.append(part)
        if len(part) < len(word):
            rest = argv[number + 1 :]
            return words, len(rest), _size(word) - _size(part) + sum(map(_size, rest))
        room -= _escaped_size(word)
    return words, 0, 0


def _fitting(word: str, room: int) -> str | None:
    """Return the longest beginning of a word that fits; None if there is no room for a word at all."""
    if room < 0:
        return None
    part = word[:room]
    if _escaped_size(part) <= room:
        return part
    size = 0
    for number, character in enumerate(part):
        size += _escaped_size(character)
        if size > room:
            return part[:number]
    return part


def _escaped_size(text: str) -> int:
    return len(json.dumps(text)) - 2


def _size(word: object) -> int:
    """Return how many bytes a word is; a lone surrogate stands for one that is no UTF-8."""
    return len(_text(word).encode("utf-8", "replace"))
