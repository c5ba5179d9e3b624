"""A number of places that may change: connections, of which all of a run share one count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Places:
    """Counts those taken; whoever wants one more says how many there may be then, itself included."""

    def __init__(self) -> None:
        self._taken = 0
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, most: Callable[[], int]) -> AsyncIterator[None]:
        """Wait for a place; `most` is asked again whenever one has become free."""
        while self._taken >= most():
            self._changed.clear()
            await self._changed.wait()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._changed.set()
