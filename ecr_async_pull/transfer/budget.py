"""How many connections at once, and how many bytes a second: both shared by every blob of a run."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque

_THROTTLE_PAUSE_S = 1.0
_GROW_AFTER_SUCCESSES = 8
_FIRST_CONNECTIONS = 8
_GROWTH = 4
_OBSERVED_S = 0.05
_WORTH_GROWTH = 1.1
_PROBE_AGAIN_S = 3.0
_KEPT_RATES = 32
_MIN_RATES = 3


class ConnectionBudget:
    """How many connections to use now: `ceiling` in all, at most `most`, and `limit` for large ranges.

    A connection that received much holds a megabyte of memory, so where there is much to receive it is half
    of the ceiling at most. `limit` begins with a few, and grows as long as more of them bring more bytes a
    second; what brought nothing is taken back and tried again later. A 429, 503 or SlowDown halves both
    (once a second at most, as one cause answers on many connections), a run of successes adds one to the
    ceiling again.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.ceiling = most
        self.limit = min(self.half, _FIRST_CONNECTIONS)
        self._successes = 0
        self._halved_at = float("-inf")
        self._marked_bytes = 0
        self._marked_at = float("inf")
        self._settled_rate = 0.0
        self._settled_limit = self.limit
        self._probe_at = 0.0

    @property
    def half(self) -> int:
        """For large ranges, and for all requests of a run that has much to receive."""
        return (self.ceiling + 1) // 2

    def throttled(self) -> None:
        now = time.monotonic()
        self._successes = 0
        if now - self._halved_at >= _THROTTLE_PAUSE_S:
            self._halved_at = now
            self.ceiling = max(1, min(self.ceiling // 2, self.limit))
            self._settle(min(self.limit, self.half), now)

    def succeeded(self) -> None:
        if self.ceiling < self.most:
            self._successes += 1
            if self._successes >= _GROW_AFTER_SUCCESSES:
                self._successes = 0
                self.ceiling += 1

    def observe(self, received_bytes: int, now: float, *, is_full: bool) -> None:
        """Told now and then how many bytes have come in all; `is_full`: every place is taken, more wait."""
        if not is_full:
            self._marked_at = float("inf")
            return
        if self._marked_at > now:
            self._marked_bytes, self._marked_at = received_bytes, now
            return
        if now - self._marked_at < _OBSERVED_S:
            return
        rate = (received_bytes - self._marked_bytes) / (now - self._marked_at)
        self._marked_bytes, self._marked_at = received_bytes, now
        if self.limit > self._settled_limit and rate < self._settled_rate * _WORTH_GROWTH:
            self._settle(self._settled_limit, now)
        elif now >= self._probe_at and self.limit < self.half:
            self._settled_rate, self._settled_limit = rate, self.limit
            self.limit = min(self.half, self.limit + _GROWTH)

    def _settle(self, limit: int, now: float) -> None:
        self.limit = self._settled_limit = limit
        self._settled_rate = 0.0
        self._probe_at = now + _PROBE_AGAIN_S


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
