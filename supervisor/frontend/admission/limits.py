"""How many connections get in, and which sources have to wait. Runs in: front-end. Owns: nothing. Never: does I/O.

A connection is unauthenticated until the client has shown who it is, for which
supervisor/frontend/admission/handshake.py gives it ten seconds.
"""

import random
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Protocol

__all__ = ["UNAUTHENTICATED_LIMIT", "AdmissionLimits", "source_of"]

UNAUTHENTICATED_LIMIT = 64
_KNOWN_LIMIT = 1024
_USER_LIMIT = 256
_SOURCES_LIMIT = 4096
_FREE_FAILURES = 5
_FAILURES_WINDOW_S = 60.0
_LONGEST_PENALTY_S = 60.0
# From so many failures on, more make no difference: 1, 2, 4, 8, 16, 32, 60 seconds.
_FAILURES_REMEMBERED = _FREE_FAILURES + 7


class _Connection(Protocol):
    def drop(self) -> None:
        """Hang up, from any thread; the connection's own thread then calls `leave`. It may have done so already."""


def source_of(address: object) -> str | None:
    """Return where a connection comes from, of an address as accept(2) gives it: one IPv4 address, or an IPv6 /64.

    One host has the use of a whole /64. None for this host itself: loopback, and unix sockets.
    """
    if not isinstance(address, tuple):
        return None  # A unix socket's.
    host, _, scope = str(address[0]).partition("%")
    ip = ip_address(host)
    if not isinstance(ip, IPv4Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback:
        return None
    if isinstance(ip, IPv4Address):
        return str(ip)
    # A link-local address is one on one link only.
    return f"{ip_network((ip, 64), strict=False)}{'%' if scope else ''}{scope}"


class AdmissionLimits:
    """Decides which connections get in, from any thread. `clock()` is monotonic, in seconds.

    At most `unauthenticated_limit` connections are unauthenticated. Over the limit, a random connection of the source
    that has most is dropped, be it the new one, so that a flood evicts itself. If the oldest was dropped, a flood would
    evict any client that needs a moment to authenticate; if the newest, connections that stay silent would keep
    everybody out.

    A source whose authentications fail is refused for a while. This host is not (source None): all local users share
    its one address, so an attacker could lock out the others with wrong tokens.

    Ordinary users' connections have a limit of their own. An administrator's have none, so that one gets in when all
    others are too many: over that limit, each takes the place of an unauthenticated connection.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        unauthenticated_limit: int = UNAUTHENTICATED_LIMIT,
    ) -> None:
        self._clock = clock
        self._unauthenticated_limit = unauthenticated_limit
        # An attacker shall not be able to tell which connection is dropped next.
        self._chance = chance or random.SystemRandom()
        self._lock = threading.Lock()
        self._unauthenticated: dict[_Connection, str | None] = {}  # guarded by self._lock
        self._known: dict[_Connection, str] = {}  # guarded by self._lock
        self._users: Counter[str] = Counter()  # guarded by self._lock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()  # guarded by self._lock; oldest first

    def __repr__(self) -> str:
        counts = f"{len(self._unauthenticated)} unauthenticated, {len(self._known)} known"
        return f"<AdmissionLimits {counts}, {len(self._failures)} sources failed>"

    def admit(self, connection: _Connection, source: str | None) -> bool:
        """Let a new connection in, unauthenticated; another one may be dropped for it. False: close it."""
        with self._lock:
            if self._is_penalized(source):
                return False
            self._unauthenticated[connection] = source
            room = self._unauthenticated_limit + min(0, _KNOWN_LIMIT - len(self._known))
            victim = self._choose_victim() if len(self._unauthenticated) > room else None
            if victim is not None:
                del self._unauthenticated[victim]
        if victim is connection:
            return False
        if victim is not None:
            try:
                victim.drop()
            except OSError:
                pass  # It has just been closed.
        return True

    def known(self, connection: _Connection, user: str, *, is_exempt: bool = False) -> bool:
        """Count a connection as one of `user` from now on; False if it was dropped, or there are too many already."""
        with self._lock:
            if connection not in self._unauthenticated:
                return False
            if not is_exempt and (len(self._known) >= _KNOWN_LIMIT or self._users[user] >= _USER_LIMIT):
                return False
            del self._unauthenticated[connection]
            self._known[connection] = user
            self._users[user] += 1
            return True

    def failed(self, source: str | None) -> None:
        """Note that an authentication from there was refused."""
        if source is None:
            return
        now = self._clock()
        with self._lock:
            failures = self._failures.setdefault(source, _Failures())
            failures.add(now)
            self._failures.move_to_end(source)
            if len(self._failures) > _SOURCES_LIMIT:
                self._failures.popitem(last=False)

    def leave(self, connection: _Connection) -> None:
        """Forget a connection, whatever it was; more than once does no harm."""
        with self._lock:
            self._unauthenticated.pop(connection, None)
            user = self._known.pop(connection, None)
            if user is not None:
                self._users[user] -= 1
                if not self._users[user]:
                    del self._users[user]

    def _is_penalized(self, source: str | None) -> bool:
        failures = None if source is None else self._failures.get(source)
        return failures is not None and self._clock() < failures.refused_until

    def _choose_victim(self) -> _Connection:
        """Return a random unauthenticated connection of the source, or the sources, that have most."""
        counts = Counter(self._unauthenticated.values())
        most = max(counts.values())
        return self._chance.choice([one for one, source in self._unauthenticated.items() if counts[source] == most])


class _Failures:
    """When the last few authentications from one source failed, within a minute; until when the source is refused."""

    __slots__ = ("_times", "refused_until")

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_FAILURES_REMEMBERED)
        self.refused_until = 0.0

    def add(self, now: float) -> None:
        self._times.append(now)
        while self._times[0] <= now - _FAILURES_WINDOW_S:
            self._times.popleft()
        if (beyond := len(self._times) - _FREE_FAILURES) > 0:
            self.refused_until = max(self.refused_until, now + min(_LONGEST_PENALTY_S, 2.0 ** (beyond - 1)))
