"""The engine of one run: fetches blobs and, behind each one's front, verifies and unpacks it.

Fetching begins as soon as a blob is started; verifying it may begin later, when the slots it is unpacked to
are known. Network and workers never wait for one another but through the files between them.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ..digest import Digest
from ..errors import PullError, storage_errors
from ..progress.events import Progress
from ..settings import MIB, TransferSettings
from .blob_fetch import BlobFetch, RangeLog
from .blob_source import BlobSource
from .fetch import Fetcher
from .follower import Follower, FollowPlan
from .offload import WorkerSlots, in_thread
from .places import Places
from .segments import Segments, first_range
from .sinks import Sink
from .tar_size import telling_range, told_tar_size

_FOLLOW_LEAST_BYTES = MIB
_FOLLOW_MOST_BYTES = 16 * MIB
_WRITER_THREADS = 2
_PLAUSIBLE_RATIO = 16


class Trust(enum.IntEnum):
    """What is known of bytes that are here: nothing; they have their digest; their tar has its own too."""

    NONE = 0
    STORED = 1
    FULL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a blob's stored bytes lie or will lie: at `offset` of the file `path`.

    `landed`: the ranges that are there already (offsets within the blob). `log` is told of what lands.
    """

    path: Path
    offset: int = 0
    log: RangeLog | None = None
    landed: tuple[tuple[int, int], ...] = ()
    trust: Trust = Trust.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobJob:
    """One distinct blob of a run.

    `media_type` says where to look for the inflated size, `known_tar_size_bytes` spares that.
    `wants_tar_size`: somebody will ask for it before it is inflated. `diff_id`: what its tar must hash to,
    None where it is no layer or nobody wants that checked.
    """

    digest: Digest
    size_bytes: int
    media_type: str
    source: BlobSource
    diff_id: Digest | None
    wants_tar_size: bool = False
    known_tar_size_bytes: int | None = None


class BlobTicket:
    """A started blob at its place."""

    def __init__(self, job: BlobJob, place: Place, engine: Engine) -> None:
        self.job = job
        self.place = place
        self._engine = engine
        self._fetch = self._begin(place)

    def _begin(self, place: Place) -> BlobFetch:
        job = self.job
        urgent = first_range(
            job.media_type,
            job.size_bytes,
            most_bytes=self._engine.segment_bytes,
            wants_tar_size=job.wants_tar_size and job.known_tar_size_bytes is None,
        )
        fetch = BlobFetch(
            digest=job.digest,
            source=job.source,
            segments=Segments(job.size_bytes, landed=place.landed, urgent=urgent),
            path=place.path,
            offset=place.offset,
            log=place.log,
        )
        if fetch.segments.has_unasked:
            self._engine.fetcher.add(fetch)
        return fetch

    async def guess_tar_size(self) -> int | None:
        """The inflated size in bytes as the blob itself tells it; checked later by inflating it.

        Waits for the bytes that tell it. None where nothing tells it. Raises what fetching them raised.
        """
        job = self.job
        if job.known_tar_size_bytes is not None:
            return job.known_tar_size_bytes
        span = telling_range(job.media_type, job.size_bytes)
        if span is None:
            return job.size_bytes if job.media_type.endswith("tar") else None
        while not self._fetch.segments.has(*span):
            if self._fetch.error is not None:
                raise self._fetch.error
            await self._fetch.moved()
        place = self.place
        start, end = span
        piece = await in_thread(None, lambda: _read(place.path, place.offset + start, end - start))
        size = told_tar_size(job.media_type, piece, job.size_bytes)
        if place.landed and size is not None and size > _PLAUSIBLE_RATIO * job.size_bytes:
            return None  # bytes of an earlier run that a power cut may have spoilt: ask no such room for them
        return size

    async def fetched(self) -> None:
        """Wait for every stored byte, without verifying any. Raises what fetching raised."""
        while not self._fetch.segments.is_complete:
            if self._fetch.error is not None:
                raise self._fetch.error
            await self._fetch.moved()

    def abandon(self, reason: PullError) -> None:
        """Nobody wants this blob any more: stop fetching it; whoever waits for it gets `reason`."""
        self._fetch.fail(reason)

    async def process(self, sinks: Sequence[Sink], *, inflates: bool) -> int:
        """Verify every byte as it lands and unpack to the sinks; returns the tar's size in bytes.

        Without `inflates` only the stored digest is checked, and the size is 0. What `place.trust` says need
        not be checked again isn't. Raises what fetching raised, `IntegrityError`, `StorageError`.
        """
        try:
            return await self._process(sinks, inflates=inflates)
        finally:
            await self.release()

    async def release(self) -> None:
        """Stop whatever is still under way: nothing is written to the place after that. Idempotent."""
        await self._fetch.release()

    async def _process(self, sinks: Sequence[Sink], *, inflates: bool) -> int:
        job, place, engine = self.job, self.place, self._engine
        plan = FollowPlan(
            path=place.path,
            offset=place.offset,
            size_bytes=job.size_bytes,
            digest=job.digest,
            checks_stored=place.trust < Trust.STORED,
            inflates=inflates,
            diff_id=job.diff_id,
            checks_diff_id=place.trust < Trust.FULL,
        )
        follower = Follower(plan, sinks)
        try:
            is_finished = False
            while not is_finished:
                await self._wait_for_work(follower)
                remaining_bytes = job.size_bytes - follower.processed_bytes
                async with engine.workers.hold(remaining_bytes, has_begun=follower.processed_bytes > 0):
                    is_finished = await self._follow(follower)
            return follower.tar_size_bytes
        finally:
            await in_thread(engine.threads, follower.close)

    async def _follow(self, follower: Follower) -> bool:
        """In a worker's place: as far as bytes are here; whether that was all of them."""
        engine, size_bytes = self._engine, self.job.size_bytes
        while True:
            before = follower.processed_bytes
            limit = min(self._fetch.segments.front, before + _FOLLOW_MOST_BYTES)
            await in_thread(engine.threads, partial(self._advance, follower, limit))
            engine.progress.unpacked(digest=self.job.digest, delta_bytes=limit - before)
            if limit >= size_bytes:
                return True
            if not self._is_worth_a_thread(limit):
                return False

    def _advance(self, follower: Follower, limit: int) -> None:
        """Thread side."""
        engine = self._engine
        can_split = (
            limit - follower.processed_bytes >= _FOLLOW_LEAST_BYTES and engine.workers.is_idle_elsewhere
        )
        with storage_errors("unpack to", follower.target):
            follower.advance(limit, engine.tails if can_split else None)
            if limit >= self.job.size_bytes:
                follower.finish()

    async def _wait_for_work(self, follower: Follower) -> None:
        """Wait until it is worth a thread's while."""
        while True:
            if self._fetch.error is not None:
                raise self._fetch.error
            if self._is_worth_a_thread(follower.processed_bytes):
                return
            await self._fetch.moved()

    def _is_worth_a_thread(self, processed_bytes: int) -> bool:
        front = self._fetch.segments.front
        return front >= self.job.size_bytes or front - processed_bytes >= _FOLLOW_LEAST_BYTES


class Engine:
    """Owns the connections' budget and the threads of one run; an async context manager.

    `storage_places`: taken for each connection to a storage host, here and elsewhere in the run.
    """

    def __init__(self, settings: TransferSettings, *, storage_places: Places, progress: Progress) -> None:
        self.progress = progress
        self.workers = WorkerSlots(settings.max_workers)
        self.threads = ThreadPoolExecutor(settings.max_workers, "follow")
        self.tails = ThreadPoolExecutor(settings.max_workers, "tail")
        self._writers = ThreadPoolExecutor(_WRITER_THREADS, "write")
        self.segment_bytes = settings.segment_bytes
        self.fetcher = Fetcher(
            settings, storage_places=storage_places, progress=progress, writers=self._writers
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.fetcher)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stack.__aexit__(kind, error, trace)
        finally:
            for pool in (self.threads, self.tails, self._writers):
                pool.shutdown(wait=False, cancel_futures=True)

    def start(self, job: BlobJob, place: Place) -> BlobTicket:
        """Begin to fetch what is missing of this blob."""
        return BlobTicket(job, place, self)


def _read(path: Path, offset: int, size_bytes: int) -> bytes:
    with storage_errors("read", path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, size_bytes, offset)
        finally:
            os.close(fd)
