"""Stored bytes in: bounded ranges of many blobs over a bounded number of connections, to where they belong.

Largest blob first, each blob's ranges in ascending order; what tells a layer's inflated size, and blobs of
one small request, before all others. Nothing is queued in memory: a piece is written at its offset, noted
in the blob's range log, and the front moves.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections import deque
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self

from ..errors import PullError, TransientError
from ..progress.events import Progress
from ..registry.faults import LinkExpired
from ..settings import MIB, TransferSettings
from .blob_fetch import BlobFetch, Running
from .budget import ConnectionBudget, RateLimit, Rates
from .places import Places
from .receive import Receiver
from .segments import SMALL_RUN_BYTES, Segment

_LOG = logging.getLogger(__name__)
_LONGEST_BACKOFF_S = 20.0
_WATCH_EVERY_S = 0.05
_YOUNG_S = 0.3
_SLOW_SHARE = 0.25
_WORTH_S = 0.5
_TELLING_BYTES = MIB
_LEAST_SEGMENT_BYTES = MIB
_GROWTH_SHARE = 16
_TURNS_LEFT = 4
_MOST_RESCUES = 6


class Fetcher:
    """Runs requests for all blobs added to it; an async context manager, whose end cancels what is under way.

    A blob's failure is that blob's alone: it is set as its `error`, nothing is raised here.
    """

    def __init__(
        self, settings: TransferSettings, *, storage_places: Places, progress: Progress, writers: Executor
    ) -> None:
        self.budget = ConnectionBudget(settings.max_connections)
        self._settings = settings
        self._storage_places = storage_places
        self._progress = progress
        self._receiver = Receiver(
            progress=progress, writers=writers, rate_limit=RateLimit(settings.limit_rate_bytes_s)
        )
        self._rates = Rates()
        self._small: deque[BlobFetch] = deque()
        self._large: list[tuple[int, int, BlobFetch]] = []
        self._order = itertools.count()
        self._requests = 0
        self._added_bytes = 0
        self._unasked_bytes = 0
        self._running: set[Running] = set()
        self._stack = AsyncExitStack()
        self._group: asyncio.TaskGroup

    async def __aenter__(self) -> Self:
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._watcher = self._group.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.cancel()
        for running in self._running:
            running.stop()
        self._small.clear()
        self._large.clear()
        await self._stack.__aexit__(kind, error, trace)

    def add(self, blob: BlobFetch) -> None:
        """Begin to fetch what this blob lacks."""
        self._added_bytes += blob.segments.unasked_bytes
        self._unasked_bytes += blob.segments.unasked_bytes
        if blob.segments.has_urgent:
            self._small.append(blob)
        else:
            self._push(blob)
        self._pump()

    def _push(self, blob: BlobFetch) -> None:
        heapq.heappush(self._large, (-blob.segments.size_bytes, next(self._order), blob))

    def _pump(self) -> None:
        """Start requests while there is room: twice for small ones, half of whose time is asking where."""
        while self._requests < (2 * self._places if self._small else self.budget.limit):
            taken = self._next()
            if taken is None:
                return
            blob, segment = taken
            self._requests += 1
            blob.attach(self._group.create_task(self._fetch(blob, segment)))

    @property
    def _places(self) -> int:
        """How many connections all requests together may use."""
        return self.budget.ceiling if self._added_bytes <= SMALL_RUN_BYTES else self.budget.half

    def _next(self) -> tuple[BlobFetch, Segment] | None:
        while self._small:
            blob = self._small[0]
            segment = self._take(blob)
            if segment is not None and blob.segments.has_urgent:
                return blob, segment
            self._small.popleft()
            if segment is not None:
                if blob.segments.has_unasked:
                    self._push(blob)
                return blob, segment
        while self._large:
            blob = self._large[0][2]
            segment = self._take(blob)
            if segment is not None:
                return blob, segment
            heapq.heappop(self._large)
        return None

    def _take(self, blob: BlobFetch) -> Segment | None:
        """The next range of this blob: the less is left to ask for, the smaller, so that all end together.

        A run's first ranges are small too: unpacking begins when the first of them is here.
        """
        if blob.error is not None:
            self._unasked_bytes -= blob.segments.unasked_bytes
            return None
        asked_bytes = self._added_bytes - self._unasked_bytes
        share = self._unasked_bytes // (_TURNS_LEFT * self.budget.limit)
        size = max(_LEAST_SEGMENT_BYTES, min(share, asked_bytes // _GROWTH_SHARE))
        segment = blob.segments.take(min(size, self._settings.segment_bytes))
        if segment is not None:
            self._unasked_bytes -= segment.remaining_bytes
        return segment

    async def _fetch(self, blob: BlobFetch, segment: Segment) -> None:
        try:
            await blob.open()
            await self._fetch_segment(blob, segment)
        except PullError as error:
            blob.fail(error)
        finally:
            self._requests -= 1
            self._pump()

    async def _fetch_segment(self, blob: BlobFetch, segment: Segment) -> None:
        failures = rescues = 0
        while segment.remaining_bytes > 0 and blob.error is None:
            reached = segment.position
            running = Running(segment, time.monotonic(), reached, rescues)
            try:
                await self._attempt(blob, running)
            except TransientError as error:
                if error.is_throttle:
                    self.budget.throttled()
                segment = running.segment
                failures = 1 if segment.position > reached else failures + 1
                if failures >= self._settings.attempts:
                    raise
                _LOG.debug("blob %s at %d: %s", blob.digest.short, segment.position, error)
                await blob.pause(_backoff_s(failures, error))
            else:
                segment = running.segment
                failures = 0
                rescues += running.is_slow
            if running.is_stopped:
                return

    async def _attempt(self, blob: BlobFetch, running: Running) -> None:
        """One request for `running.segment`, of which nothing remains where all went well."""
        segment = running.segment
        if blob.is_stream and segment.position > 0:
            self._progress.fetched(digest=blob.digest, delta_bytes=-segment.position)
            segment.position = 0
        self._running.add(running)
        blob.under_way.add(running)
        try:
            async with (
                running.scope,
                blob.source.open(segment.position, segment.end, self._connection) as body,
            ):
                running.began_at = time.monotonic()
                if body.is_whole and not blob.is_stream:
                    running.segment = segment = self._fall_back_to_stream(blob, running)
                elif body.is_whole:
                    segment.position = body.start
                await self._receiver.receive(blob, segment, body)
            self.budget.succeeded()
            if segment.position - running.first >= _TELLING_BYTES:
                self._rates.note(running.rate_bytes_s)
        except TimeoutError:  # our own scope: a straggler, or the blob is given up
            _LOG.debug("blob %s at %d: left a slow connection", blob.digest.short, segment.position)
        finally:
            self._running.discard(running)
            blob.under_way.discard(running)

    def _fall_back_to_stream(self, blob: BlobFetch, running: Running) -> Segment:
        """The server ignores Range: this one response brings everything, other requests for the blob stop."""
        self._progress.message(f"{blob.digest.short}: the server ignores ranges, going on with one stream")
        blob.is_stream = True
        while (dropped := blob.segments.take(blob.segments.size_bytes)) is not None:
            self._unasked_bytes -= dropped.remaining_bytes
        for other in list(blob.under_way):
            if other is not running:
                other.stop()
        self._progress.fetched(digest=blob.digest, delta_bytes=-blob.segments.landed_bytes)
        running.first = 0
        return Segment(start=0, end=blob.segments.size_bytes, position=0)

    def _connection(self) -> AbstractAsyncContextManager[None]:
        return self._storage_places.hold(lambda: self._places)

    async def _watch(self) -> None:
        """Use more connections while they bring more, and leave those far slower than their peers."""
        rescues = self._settings.handles_stragglers and self._settings.limit_rate_bytes_s is None
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            now = time.monotonic()
            is_full = bool(self._large) and self._requests >= self.budget.limit
            self.budget.observe(self._receiver.received_bytes, now, is_full=is_full)
            self._pump()
            if rescues:
                self._rescue_stragglers(now)

    def _rescue_stragglers(self, now: float) -> None:
        grown = [one for one in self._running if now - one.began_at >= _YOUNG_S]
        median = self._rates.median([one.rate_bytes_s for one in grown])
        if median is None:
            return
        for one in grown:
            rate = max(one.rate_bytes_s, 1.0)
            if (
                rate < median * _SLOW_SHARE
                and one.segment.remaining_bytes / rate > _WORTH_S
                and one.rescues < _MOST_RESCUES
            ):
                one.rescue()


def _backoff_s(failures: int, error: TransientError) -> float:
    """Seconds until the next try: what the server asked for, else growing, with jitter."""
    if error.retry_after_s is not None:
        return error.retry_after_s
    if isinstance(error, LinkExpired) and failures == 1:
        return 0.0
    longest = min(_LONGEST_BACKOFF_S, 0.2 * 3.0 ** (failures - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter
