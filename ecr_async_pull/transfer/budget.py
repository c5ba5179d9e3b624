"""How many connections at once, and how many bytes a second: both shared by every blob of a run."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque

_THROTTLE_PAUSE_S = 1.0
_GROW_AFTER_SUCCESSES = 8
_KEPT_RATES = 32
_MIN_RATES = 3


class ConnectionBudget:
    """The number of connections to use now, between 1 and `most`.

    Additive increase, multiplicative decrease: a 429, 503 or SlowDown halves it (once a second
    at most, as one cause answers on many connections), a run of successes adds one again.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = most
        self._successes = 0
        self._halved_at = float("-inf")

    def throttled(self) -> None:
        now = time.monotonic()
        self._successes = 0
        if now - self._halved_at >= _THROTTLE_PAUSE_S:
            self._halved_at = now
            self.limit = max(1, self.limit // 2)

    def succeeded(self) -> None:
        if self.limit < self.most:
            self._successes += 1
            if self._successes >= _GROW_AFTER_SUCCESSES:
                self._successes = 0
                self.limit += 1


class RateLimit:
    """A token bucket over all connections; one second's worth may burst at most."""

    def __init__(self, bytes_s: int | None) -> None:
        self._bytes_s = bytes_s
        self._free_at = 0.0

    async def take(self, count_bytes: int) -> None:
        """Return when these bytes may count as received."""
        if self._bytes_s is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 0.1) + count_bytes / self._bytes_s
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Rates:
    """Bytes a second that whole requests of this run got lately: what a slow one is compared with."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_KEPT_RATES)

    def note(self, bytes_s: float) -> None:
        self._recent.append(bytes_s)

    def median(self, running: list[float]) -> float | None:
        """Of requests under way, or while these are few of those lately finished; None while all are few."""
        for rates in (running, [*self._recent, *running]):
            if len(rates) >= _MIN_RATES:
                return statistics.median(rates)
        return None
