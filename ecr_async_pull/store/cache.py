"""The cache of blobs that runs share: any number of processes, and users of one group.

`cache_layout` says what lies where, `cache_shelf` how a blob comes to be trusted, `ingest` how one is fetched
by one process only, `cache_prune` what is removed when.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ..digest import Digest, check_bytes
from ..errors import IntegrityError, storage_errors
from ..model.descriptor import Descriptor
from ..transfer.offload import in_thread
from . import cache_prune
from .atomic import write_atomic
from .cache_index import BlobFacts, BlobIndex, TagIndex
from .cache_layout import CacheLayout
from .cache_prune import CacheInfo, Problem, Removed
from .cache_shelf import BlobShelf
from .ingest import Ingest

_DOCUMENT_LIMIT_BYTES = 16 * 1024 * 1024


class BlobCache:
    """One run's view of a cache directory. Use it as an async context manager, or call `open` and `close`.

    Every blob that was found or committed through this object is safe from `prune`, in any process, until it
    is closed. All plain methods block: call them through `asyncio.to_thread`. They may run in several threads
    at once.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._opened: tuple[CacheLayout, BlobIndex, TagIndex, BlobShelf] | None = None

    def open(self) -> None:
        """Make the directory where it's missing; raises `StorageError` where it can't be made or written."""
        layout = CacheLayout.prepare(self.directory)
        index = BlobIndex(layout)
        shelf = BlobShelf(layout, index)
        shelf.open()
        self._opened = (layout, index, TagIndex(layout), shelf)

    def close(self) -> None:
        """Let go of every blob; idempotent."""
        if self._opened is not None:
            self._shelf.close()
            self._opened = None

    async def __aenter__(self) -> BlobCache:
        try:
            await in_thread(None, self.open)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def find(
        self, digest: Digest, size_bytes: int, *, verify: bool = False, caller_hashes: bool = False
    ) -> Path | None:
        """The finished blob, held against pruning from now on, or None.

        Its size is always checked. It is hashed where `verify` asks for that, where the size is another, and
        where it wasn't verified since this machine started; wrong bytes are dropped. `caller_hashes`: skip
        the last of these, for the caller hashes what it reads and calls `drop_if_damaged` where that is
        wrong.
        """
        return self._shelf.find(digest, size_bytes, verify=verify, caller_hashes=caller_hashes)

    def drop_if_damaged(self, digest: Digest) -> bool:
        """Hash the blob and remove it if its bytes are wrong; True where it can't be used (any more)."""
        return self._shelf.drop_if_damaged(digest)

    def ingest(
        self,
        digest: Digest,
        size_bytes: int,
        *,
        poll_s: float = 0.1,
        verify: bool = False,
        caller_hashes: bool = False,
    ) -> Ingest:
        """An async context manager around fetching one blob; `verify` and `caller_hashes` as for `find`."""
        return Ingest(
            self._layout,
            self._shelf,
            digest,
            size_bytes,
            poll_s=poll_s,
            verify=verify,
            caller_hashes=caller_hashes,
        )

    def has_partials(self) -> bool:
        """Of some blob a part is here, for whoever goes on with it."""
        with storage_errors("look through", self._layout.ingest_directory):
            return bool(self._layout.partials())

    def is_settled(self, digest: Digest) -> bool:
        """The blob was verified since this machine started: its bytes need not be hashed again."""
        return self._index.is_settled(digest)

    def confirm(self, digest: Digest, facts: BlobFacts) -> None:
        """The caller has just hashed the blob that it found, and its digest was right."""
        self._index.record(digest, facts, is_written_now=True)

    def facts(self, digest: Digest) -> BlobFacts | None:
        """What is known of a blob, whether it is here or not."""
        return self._index.facts(digest)

    def record(self, digest: Digest, facts: BlobFacts) -> None:
        """Add to what is known of a blob. Never raises for the disk's troubles."""
        self._index.record(digest, facts)

    def put_document(self, digest: Digest, media_type: str, raw: bytes) -> None:
        """Keep a manifest, index or config, as a blob like any other.

        Raises `IntegrityError` and `StorageError`.
        """
        check_bytes(raw, digest=digest, size_bytes=None, what=f"document {digest.short}")
        path = self._layout.blob(digest)
        if self.find(digest, len(raw), verify=True) is None:
            with storage_errors("put into the cache", path):
                write_atomic(
                    path, raw, mode=self._layout.file_mode, temporary_in=self._layout.ingest_directory
                )
        self._index.record(digest, BlobFacts(media_type=media_type), is_written_now=True)

    def get_document(self, digest: Digest) -> tuple[bytes, str] | None:
        """`(raw, media type)`, verified by its digest in every call; None where it isn't here whole."""
        path = self._layout.blob(digest)
        facts = self._index.facts(digest)
        if facts is None or facts.media_type is None:
            return None
        with storage_errors("read", path):
            try:
                if path.stat().st_size > _DOCUMENT_LIMIT_BYTES:
                    return None
                raw = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            check_bytes(raw, digest=digest, size_bytes=None, what=f"document {digest.short}")
        except IntegrityError:
            self.drop_if_damaged(digest)
            return None
        self._index.touch(digest)
        return raw, facts.media_type

    def remember_tag(self, reference: str, target: Descriptor) -> None:
        """What the full reference resolved to just now. Never raises for the disk's troubles."""
        self._tags.remember(reference, target)

    def recall_tag(self, reference: str) -> Descriptor | None:
        """What the full reference resolved to last; the document itself may be gone (`get_document`)."""
        return self._tags.recall(reference)

    def info(self) -> CacheInfo:
        return cache_prune.info(self._layout, self._index)

    def verify(
        self, *, repair: bool = False, on_blob: Callable[[Digest, int], None] | None = None
    ) -> list[Problem]:
        """Hash every blob; `repair` drops those whose bytes are wrong.

        `on_blob(digest, bytes)` after each.
        """
        return cache_prune.verify(self._layout, self._shelf, repair=repair, on_blob=on_blob)

    def prune(
        self, *, max_size_bytes: int | None = None, older_than_s: float | None = None, dry_run: bool = False
    ) -> list[Removed]:
        """Remove what wasn't used for `older_than_s`, then the least recently used beyond `max_size_bytes`.

        Never what a running pull uses or fetches. Partial blobs that nobody went on with for a day, facts of
        blobs that are gone, and tags that lead nowhere go in any case.
        """
        return cache_prune.prune(
            self._layout,
            self._index,
            max_size_bytes=max_size_bytes,
            older_than_s=older_than_s,
            dry_run=dry_run,
        )

    @property
    def _layout(self) -> CacheLayout:
        return self._parts()[0]

    @property
    def _index(self) -> BlobIndex:
        return self._parts()[1]

    @property
    def _tags(self) -> TagIndex:
        return self._parts()[2]

    @property
    def _shelf(self) -> BlobShelf:
        return self._parts()[3]

    def _parts(self) -> tuple[CacheLayout, BlobIndex, TagIndex, BlobShelf]:
        assert self._opened is not None, "the cache is not open"
        return self._opened
