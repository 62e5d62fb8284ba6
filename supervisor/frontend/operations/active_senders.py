"""How many threads have something to send at the moment. Runs in: front-end. Owns: nothing. Never: reads a clock."""

import threading

__all__ = ["ActiveSenders"]

# A thread that last sent something so long ago has nothing to send.
_WINDOW_S = 0.1
_RECOUNT_S = 0.05


class ActiveSenders:
    """`count(now)` from any thread that has just sent something; `now` in monotonic seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent_at: dict[int, float] = {}  # guarded by self._lock; by thread
        self._counted_at = 0.0  # guarded by self._lock

    def __repr__(self) -> str:
        return f"{len(self._sent_at)} busy"

    def count(self, now: float) -> int:
        """Take note of the calling thread and return how many there are, itself included."""
        with self._lock:
            self._sent_at[threading.get_ident()] = now
            if now - self._counted_at >= _RECOUNT_S:
                self._counted_at = now
                self._sent_at = {ident: at for ident, at in self._sent_at.items() if now - at < _WINDOW_S}
            return len(self._sent_at)
