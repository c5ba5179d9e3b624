"""How a cache stands, and what is taken out of it when. All blocking."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..digest import Digest
from ..errors import storage_errors
from .atomic import TEMPORARY_SUFFIX
from .cache_index import BlobIndex, TagIndex
from .cache_layout import CacheLayout
from .cache_shelf import BlobShelf, hash_file, use_key
from .journal import journal_path
from .locks import ByteLocks, ProcessLock

STALE_AFTER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheInfo:
    """`ingest_bytes`: partial blobs. Uses are Unix times in seconds, None for an empty cache."""

    blobs: int
    size_bytes: int
    ingest_bytes: int
    oldest_use_s: float | None
    newest_use_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A blob whose bytes have the digest `actual`."""

    digest: Digest
    actual: Digest
    size_bytes: int
    was_dropped: bool


class RemovedKind(enum.Enum):
    BLOB = "blob"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What `prune` took out, or would take out. `last_use_s` is a Unix time."""

    digest: Digest
    kind: RemovedKind
    size_bytes: int
    last_use_s: float


def info(layout: CacheLayout, index: BlobIndex) -> CacheInfo:
    """Raises `StorageError` where the directory can't be read."""
    entries = _entries(layout, index)
    blobs = [entry for entry in entries if entry.kind is RemovedKind.BLOB]
    uses = [entry.last_use_s for entry in blobs]
    return CacheInfo(
        blobs=len(blobs),
        size_bytes=sum(entry.size_bytes for entry in blobs),
        ingest_bytes=sum(entry.size_bytes for entry in entries if entry.kind is RemovedKind.PARTIAL),
        oldest_use_s=min(uses, default=None),
        newest_use_s=max(uses, default=None),
    )


def verify(
    layout: CacheLayout, shelf: BlobShelf, *, repair: bool, on_blob: Callable[[Digest, int], None] | None
) -> list[Problem]:
    """As `BlobCache.verify`."""
    problems = []
    with storage_errors("read the cache", layout.root):
        digests = sorted(layout.blobs())
    for digest in digests:
        path = layout.blob(digest)
        with storage_errors("read", path):
            try:
                actual, _ = hash_file(path, digest.algorithm)
                size_bytes = path.stat().st_size
            except FileNotFoundError:
                continue
        if actual != digest:
            was_dropped = repair and shelf.drop_if_damaged(digest)
            problems.append(
                Problem(digest=digest, actual=actual, size_bytes=size_bytes, was_dropped=was_dropped)
            )
        if on_blob is not None:
            on_blob(digest, size_bytes)
    return problems


def prune(
    layout: CacheLayout,
    index: BlobIndex,
    *,
    max_size_bytes: int | None,
    older_than_s: float | None,
    dry_run: bool,
) -> list[Removed]:
    """As `BlobCache.prune`; what it returns is in the order of removal, least recently used first."""
    now_s = time.time()
    entries = _entries(layout, index)
    left_bytes = sum(entry.size_bytes for entry in entries)
    in_use = ByteLocks(layout.in_use, mode=layout.file_mode)
    in_use.open()
    removed = []
    try:
        for entry in entries:
            age_s = now_s - entry.last_use_s
            is_old = older_than_s is not None and age_s > older_than_s
            is_stale = entry.kind is RemovedKind.PARTIAL and age_s > STALE_AFTER_S
            is_too_much = max_size_bytes is not None and left_bytes > max_size_bytes
            if (is_old or is_stale or is_too_much) and _remove(layout, index, in_use, entry, dry_run=dry_run):
                left_bytes -= entry.size_bytes
                removed.append(entry)
    finally:
        in_use.close()
    if not dry_run:
        with storage_errors("clean up the cache", layout.root):
            _sweep(layout, index, now_s)
    return removed


def _entries(layout: CacheLayout, index: BlobIndex) -> list[Removed]:
    """Everything that takes space, least recently used first; what vanishes meanwhile is left out."""
    entries = []
    with storage_errors("read the cache", layout.root):
        for digest in layout.blobs():
            with suppress(FileNotFoundError):
                size_bytes = layout.blob(digest).stat().st_size
                last_use_s = index.last_use_s(digest)
                entries.append(_entry(digest, RemovedKind.BLOB, size_bytes, last_use_s))
        for digest in layout.partials():
            partial = layout.partial(digest)
            statuses = []
            for path in (partial, journal_path(partial)):
                with suppress(FileNotFoundError):
                    statuses.append(path.stat())
            if statuses:
                size_bytes = sum(min(status.st_size, status.st_blocks * 512) for status in statuses)
                last_use_s = max(status.st_mtime for status in statuses)
                entries.append(_entry(digest, RemovedKind.PARTIAL, size_bytes, last_use_s))
    return sorted(entries, key=lambda entry: (entry.last_use_s, entry.kind.value, entry.digest))


def _entry(digest: Digest, kind: RemovedKind, size_bytes: int, last_use_s: float) -> Removed:
    return Removed(digest=digest, kind=kind, size_bytes=size_bytes, last_use_s=last_use_s)


def _remove(
    layout: CacheLayout, index: BlobIndex, in_use: ByteLocks, entry: Removed, *, dry_run: bool
) -> bool:
    """Remove one entry unless a process fetches it, holds it or has used it since it was listed."""
    digest = entry.digest
    lock = ProcessLock(layout.ingest_lock(digest), mode=layout.file_mode)
    if not lock.try_acquire():
        return False
    key = use_key(digest)
    try:
        if not in_use.try_acquire(key, shared=False):
            return False
        try:
            with storage_errors("remove from the cache", layout.blob(digest)):
                try:
                    if entry.kind is RemovedKind.BLOB and index.last_use_s(digest) > entry.last_use_s:
                        return False
                    if not dry_run:
                        _unlink(layout, index, entry)
                except FileNotFoundError:
                    return False
        finally:
            in_use.release(key)
    finally:
        lock.release(removes_file=True)
    return True


def _unlink(layout: CacheLayout, index: BlobIndex, entry: Removed) -> None:
    if entry.kind is RemovedKind.BLOB:
        layout.blob(entry.digest).unlink()
        index.forget(entry.digest)
        return
    partial = layout.partial(entry.digest)
    journal_path(partial).unlink(missing_ok=True)
    partial.unlink(missing_ok=True)


def _sweep(layout: CacheLayout, index: BlobIndex, now_s: float) -> None:
    """Remove what takes no space to speak of: facts without a blob, tags that lead nowhere, leftovers of
    crashes.
    """
    for digest in list(layout.entries()):
        with suppress(FileNotFoundError):
            is_orphan = not layout.blob(digest).exists() and not layout.partial(digest).exists()
            if is_orphan and now_s - index.last_use_s(digest) > STALE_AFTER_S:
                index.forget(digest)
    tags = TagIndex(layout)
    for path in list(layout.tags_directory.iterdir()):
        target = tags.target(path)
        if path.suffix == ".json" and (target is None or not layout.blob(target[1].digest).exists()):
            path.unlink(missing_ok=True)
    for directory in layout.written_directories():
        for path in list(directory.iterdir()):
            if path.name.endswith(TEMPORARY_SUFFIX) and _age_s(path, now_s) > STALE_AFTER_S:
                path.unlink(missing_ok=True)
    for digest in layout.partials():
        partial = layout.partial(digest)
        lock = ProcessLock(layout.ingest_lock(digest), mode=layout.file_mode)
        # A lock file that a killed process left, and nothing beside it.
        if not partial.exists() and not journal_path(partial).exists() and lock.try_acquire():
            lock.release(removes_file=True)


def _age_s(path: Path, now_s: float) -> float:
    try:
        return now_s - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
