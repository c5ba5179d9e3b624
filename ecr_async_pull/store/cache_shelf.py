"""The finished blobs of a cache: looked up, trusted or not, kept from being pruned, put in, thrown out. All
blocking.

Durability: a blob is renamed into its place without a sync, which would cost more than its download. What a
power cut can do to it is caught in another way: the index notes in which boot of which machine a blob was
verified, and one from another boot (or copied here, as CI caches are) is hashed before it is trusted again.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from ..digest import Digest, Hasher
from ..errors import storage_errors
from .cache_index import BlobFacts, BlobIndex
from .cache_layout import CacheLayout
from .locks import ByteLocks, ProcessLock

_LOG = logging.getLogger(__name__)
_READ_BYTES = 256 * 1024


class BlobShelf:
    """The `blobs/` of one cache, as one process sees it. What it found or placed stays held until `close`."""

    def __init__(self, layout: CacheLayout, index: BlobIndex) -> None:
        self._layout = layout
        self._index = index
        self._in_use = ByteLocks(layout.in_use, mode=layout.file_mode)
        self._holds: dict[Digest, int] = {}
        self._mutex = threading.Lock()

    def open(self) -> None:
        self._in_use.open()

    def close(self) -> None:
        """Let go of every blob."""
        self._in_use.close()

    def find(
        self,
        digest: Digest,
        size_bytes: int,
        *,
        verify: bool,
        caller_hashes: bool,
        has_ingest_lock: bool = False,
    ) -> Path | None:
        """As `BlobCache.find`; `has_ingest_lock`: the caller holds the lock under which damaged blobs are
        dropped.
        """
        path = self._layout.blob(digest)
        if not self._hold(digest):
            return None  # somebody prunes it in this very moment
        is_found = False
        try:
            with storage_errors("read", path):
                try:
                    has_size = path.stat().st_size == size_bytes
                except FileNotFoundError:
                    return None
            is_trusted = not verify and (caller_hashes or self._index.is_settled(digest))
            if not (has_size and is_trusted):
                if self.drop_if_damaged(digest, has_ingest_lock=has_ingest_lock):
                    return None
                if has_size:
                    self._index.record(digest, BlobFacts(), is_written_now=True)
            # An intact blob of another size means that who asks was told a wrong size: no reason to drop it.
            is_found = has_size
        finally:
            if not is_found:
                self._let_go(digest)
        if not is_found:
            return None
        self._index.touch(digest)
        return path

    def place(self, source: Path, digest: Digest, facts: BlobFacts) -> Path:
        """Rename the verified file `source`, on the same file system, to its place."""
        path = self._layout.blob(digest)
        self._hold(digest)
        with storage_errors("put into the cache", path):
            if self._layout.file_mode is not None and source.stat().st_uid == os.geteuid():
                source.chmod(self._layout.file_mode)
            source.replace(path)
        self._index.record(digest, facts, is_written_now=True)
        return path

    def drop_if_damaged(self, digest: Digest, *, has_ingest_lock: bool = False) -> bool:
        """Hash the blob and remove it unless its bytes are right.

        True: there is no blob of this digest to be used.
        """
        path = self._layout.blob(digest)
        with storage_errors("read", path):
            try:
                actual, inode = hash_file(path, digest.algorithm)
            except FileNotFoundError:
                return True
        if actual == digest:
            return False
        _LOG.warning("dropping %s from the cache: its bytes have digest %s", digest, actual)
        lock = ProcessLock(self._layout.ingest_lock(digest), mode=self._layout.file_mode)
        if not has_ingest_lock and not lock.try_acquire():
            return True  # somebody is bringing it anew: theirs to drop
        try:
            with storage_errors("drop from the cache", path):
                try:
                    if path.stat().st_ino == inode:
                        path.unlink()
                except FileNotFoundError:
                    pass
        finally:
            lock.release(removes_file=True)
        return True

    def _hold(self, digest: Digest) -> bool:
        with self._mutex:
            if digest not in self._holds and not self._in_use.try_acquire(use_key(digest), shared=True):
                return False
            self._holds[digest] = self._holds.get(digest, 0) + 1
            return True

    def _let_go(self, digest: Digest) -> None:
        with self._mutex:
            self._holds[digest] -= 1
            if self._holds[digest] == 0:
                del self._holds[digest]
                self._in_use.release(use_key(digest))


def use_key(digest: Digest) -> int:
    """The byte of `in-use.lock` that stands for this blob (60 bits; sharing one only keeps more)."""
    return int(digest.hex[:15], 16)


def hash_file(path: Path, algorithm: str = "sha256") -> tuple[Digest, int]:
    """The digest of a whole file, and the inode that was read. Blocking; raises `OSError`."""
    hasher = Hasher(algorithm)
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
        return hasher.digest(), os.fstat(file.fileno()).st_ino
