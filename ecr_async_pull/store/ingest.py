"""One blob on its way into a cache, by one process at a time."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from ..digest import Digest
from ..errors import IntegrityError, storage_errors
from ..transfer.offload import in_thread
from .cache_index import BlobFacts
from .cache_layout import CacheLayout
from .cache_shelf import BlobShelf
from .journal import Journal
from .locks import ProcessLock


class Ingest:
    """Waits for the right to fetch a blob; inside, either the blob is here by now or it is ours to fetch.

    Where `is_present`, `path` is the finished blob. Otherwise `path` is the partial file, which exists, and
    `journal` says what of it has landed; after checking size and digest of the whole, call `commit`. Leaving
    without it keeps both for whoever comes next.

    Whoever waits here must hold nothing that a fetch needs (a connection, a place in a queue): two processes
    that wait for each other's blobs go on because those who have the right can always use it.
    """

    def __init__(
        self,
        layout: CacheLayout,
        shelf: BlobShelf,
        digest: Digest,
        size_bytes: int,
        *,
        poll_s: float,
        verify: bool,
        caller_hashes: bool,
    ) -> None:
        self._layout = layout
        self._shelf = shelf
        self._digest = digest
        self._size_bytes = size_bytes
        self._poll_s = poll_s
        self._verify = verify
        self._caller_hashes = caller_hashes
        self._lock = ProcessLock(layout.ingest_lock(digest), mode=layout.file_mode)
        self._journal: Journal | None = None
        self._finished: Path | None = None

    @property
    def is_present(self) -> bool:
        return self._finished is not None

    @property
    def path(self) -> Path:
        return self._finished or self._layout.partial(self._digest)

    @property
    def journal(self) -> Journal:
        """The partial file's journal; only where the blob isn't present."""
        assert self._journal is not None
        return self._journal

    async def __aenter__(self) -> Ingest:
        await self._lock.acquire(poll_s=self._poll_s)
        try:
            await in_thread(None, self._prepare)
        except BaseException:
            await in_thread(None, self._leave)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await in_thread(None, self._leave)

    async def commit(self, facts: BlobFacts | None = None) -> Path:
        """Make the partial file the blob, whose bytes the caller has verified; returns its path.

        Raises `IntegrityError` where the file hasn't the promised size: then nothing was verified.
        """
        return await in_thread(None, lambda: self._commit(facts or BlobFacts()))

    def _prepare(self) -> None:
        self._finished = self._shelf.find(
            self._digest,
            self._size_bytes,
            verify=self._verify,
            caller_hashes=self._caller_hashes,
            has_ingest_lock=True,
        )
        if self._finished is not None:
            return
        partial = self._layout.partial(self._digest)
        mode = self._layout.file_mode
        with storage_errors("write to the cache", partial):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(partial, flags, 0o666 if mode is None else mode)
            try:
                status = os.fstat(descriptor)
                if mode is not None and status.st_uid == os.geteuid():
                    os.fchmod(descriptor, mode)
                if status.st_size > self._size_bytes:
                    os.ftruncate(descriptor, self._size_bytes)
            finally:
                os.close(descriptor)
        self._journal = Journal.open(
            partial, size_bytes=self._size_bytes, identity=str(self._digest), mode=mode
        )

    def _commit(self, facts: BlobFacts) -> Path:
        partial = self._layout.partial(self._digest)
        with storage_errors("read", partial):
            actual_bytes = partial.stat().st_size
        if actual_bytes != self._size_bytes:
            raise IntegrityError(
                f"blob {self._digest.short}: {actual_bytes} bytes are here where {self._size_bytes} were"
                " promised; pull again"
            )
        self._finished = self._shelf.place(partial, self._digest, facts)
        self.journal.delete()
        return self._finished

    def _leave(self) -> None:
        if self._journal is not None:
            self._journal.close()
        self._lock.release(removes_file=self.is_present)
