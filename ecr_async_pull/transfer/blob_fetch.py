"""One blob on its way to its file, and each request that is under way for it."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..digest import Digest
from ..errors import PullError, TransientError, storage_errors
from .blob_source import BlobSource
from .offload import all_done, in_thread
from .segments import Segment, Segments


class RangeLog(Protocol):
    """Remembers across runs which ranges of a blob's file have landed (offsets within the blob)."""

    def add(self, start: int, end: int) -> None: ...


class BlobFetch:
    """One blob under way to `offset` of the file `path`; one event loop. `error` set: it will not come."""

    def __init__(
        self,
        *,
        digest: Digest,
        source: BlobSource,
        segments: Segments,
        path: Path,
        offset: int,
        log: RangeLog | None,
    ) -> None:
        self.digest = digest
        self.source = source
        self.segments = segments
        self.path = path
        self.offset = offset
        self.log = log
        self.error: PullError | None = None
        self.fd = -1
        self.under_way: set[Running] = set()
        self.is_stream = False
        self._opening = asyncio.Lock()
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()

    async def open(self) -> None:
        """Open the blob's file, once. Raises `StorageError`."""
        async with self._opening:
            if self.fd < 0:
                self.fd = await in_thread(None, self._open)

    def _open(self) -> int:
        with storage_errors("write", self.path):
            return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def attach(self, task: asyncio.Task[None]) -> None:
        """This task fetches a part of the blob."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def release(self) -> None:
        """Give up what hasn't landed, wait for what is under way, and close the file; idempotent.

        Nothing is written and no range is noted after that, even where waiting was cancelled.
        """
        is_complete = self.segments.is_complete
        if not is_complete:
            self.fail(TransientError(f"blob {self.digest} was given up"))
        try:
            if self.is_stream or not is_complete:
                await all_done(self._tasks)
        finally:
            self.log = None
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1

    def landed(self, start: int, end: int) -> None:
        self.segments.land(start, end)
        if self.log is not None:
            self.log.add(start, end)
        self._moved.set()

    def fail(self, error: PullError) -> None:
        if self.error is None:
            self.error = error
        self._failed.set()
        for running in self.under_way:
            running.stop()
        self._moved.set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not once the blob has failed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._failed.wait()

    async def moved(self) -> None:
        """Return when bytes have landed or the blob failed since the last call; for one waiter."""
        await self._moved.wait()
        self._moved.clear()


@dataclass(eq=False, slots=True)
class Running:
    """One request under way."""

    segment: Segment
    began_at: float
    first: int
    rescues: int
    is_slow: bool = False
    is_stopped: bool = False
    _scope: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))

    @property
    def rate_bytes_s(self) -> float:
        return (self.segment.position - self.first) / max(time.monotonic() - self.began_at, 1e-6)

    @property
    def scope(self) -> asyncio.Timeout:
        return self._scope

    def stop(self) -> None:
        """Leave this request for good."""
        self._leave()
        self.is_stopped = True

    def rescue(self) -> None:
        """Leave this request; the rest of its segment goes over another connection."""
        self._leave()
        self.is_slow = True

    def _leave(self) -> None:
        if not (self.is_slow or self.is_stopped):
            self._scope.reschedule(0)
