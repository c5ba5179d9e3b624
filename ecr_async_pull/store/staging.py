"""The private directory beside the output in which one run keeps what isn't finished.

`<parent>/.ecr-async-pull-<16 hex>/`, mode 0700: `lock`, `blobs/<algorithm>-<hex>` with its `.journal`, and
`archives/<16 hex>.partial`. The name follows from what was asked for, so the same command finds its bytes
again. The running process holds the lock; a second one with the same request works in a directory of its own,
with a random suffix. So does one that meets a symbolic link, somebody else's directory or open permissions
under that name.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Iterator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ..digest import Digest
from ..errors import StorageError, storage_errors
from ..transfer.offload import in_thread
from .journal import journal_path
from .locks import ProcessLock

_PREFIX = ".ecr-async-pull-"
_NAME = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{16}(?:-[0-9a-f]{8})?")
_NAME_LENGTH = len(_PREFIX) + 16
_ATTEMPTS = 16
_UNSETTLED_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleStaging:
    """A staging directory that no process holds. `age_s`: seconds since something in it changed last."""

    path: Path
    size_bytes: int
    age_s: float


class Staging:
    """A locked staging directory. Every method blocks: call through `asyncio.to_thread`."""

    def __init__(self, path: Path, lock: ProcessLock) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, parent: Path, request: bytes, *, resumes: bool = True) -> Staging:
        """Take, or make, the directory of this request in `parent`, which must exist.

        `request` is whatever makes two runs the same. `resumes=False` begins with an empty directory.
        Raises `StorageError`.
        """
        path = _path_of(parent, request)
        name = path.name
        for _ in range(_ATTEMPTS):
            lock = _take(path)
            if lock is None:
                path = parent / f"{name}-{secrets.token_hex(4)}"
                continue
            if not lock.is_held:
                continue
            staging = cls(path, lock)
            try:
                staging._prepare(resumes=resumes)
            except BaseException:
                lock.release()
                raise
            return staging
        raise StorageError(
            f"can't make a staging directory in {parent}: others keep removing it; choose another one"
        )

    def partial_blob_path(self, digest: Digest) -> Path:
        """Where the bytes of this blob gather (its journal lies beside it)."""
        return self.path / "blobs" / f"{digest.algorithm}-{digest.hex}"

    def archive_path(self, key: str) -> Path:
        """Where the archive that `key` names is put together: the same path in every run."""
        return self.path / "archives" / f"{Digest.of(key.encode()).hex[:16]}.partial"

    def prune(self, keep: AbstractSet[Digest]) -> int:
        """Remove every blob that isn't in `keep`, with its journal; returns the bytes given back."""
        kept = set()
        for digest in keep:
            blob = self.partial_blob_path(digest)
            kept |= {blob.name, journal_path(blob).name}
        freed = 0
        with storage_errors("clean up", self.path):
            for entry in (self.path / "blobs").iterdir():
                if entry.name not in kept:
                    freed += _allocated_bytes(entry.lstat())
                    entry.unlink()
        return freed

    def kept_bytes(self, *, archives: bool = True) -> int:
        """What the directory takes on the disk, in bytes (holes don't count), with or without `archives`."""
        root = self.path if archives else self.path / "blobs"
        return sum(_allocated_bytes(status) for status in _walk(root))

    def close(self) -> None:
        """Let go and leave everything for the next run of the same request; idempotent."""
        self._lock.release()

    def remove(self) -> None:
        """Remove the directory and let go: the run succeeded.

        It gives up its name first, and its lock file last: nobody can begin to use what is half gone.
        """
        doomed = self.path.with_name(f"{self.path.name[:_NAME_LENGTH]}-{secrets.token_hex(4)}")
        try:
            with storage_errors("remove", self.path):
                self.path.rename(doomed)
                for entry in [entry for entry in doomed.iterdir() if entry.name != "lock"]:
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry)
                    else:
                        entry.unlink()
                (doomed / "lock").unlink()
                doomed.rmdir()
        finally:
            self._lock.release()

    def remove_if_empty(self) -> None:
        """Let go, and remove the directory where no bytes wait in it."""
        if self.kept_bytes() == 0:
            self.remove()
        else:
            self.close()

    def _prepare(self, *, resumes: bool) -> None:
        with storage_errors("use the staging directory", self.path):
            if not resumes:
                for entry in ("blobs", "archives"):
                    shutil.rmtree(self.path / entry, ignore_errors=True)
            for entry in ("blobs", "archives"):
                (self.path / entry).mkdir(mode=0o700, exist_ok=True)
            os.utime(self.path)


@asynccontextmanager
async def hold_staging(parent: Path, request: bytes, *, resumes: bool = True) -> AsyncIterator[Staging]:
    """`Staging.open`, closed at the end of the block; what is in it stays unless `remove` was called.

    Cancelled before the block begins, it leaves no directory that was made only now.
    """
    opened: list[Staging] = []
    try:
        await in_thread(None, lambda: opened.append(Staging.open(parent, request, resumes=resumes)))
    except BaseException:
        for staging in opened:
            await in_thread(None, staging.remove_if_empty)
        raise
    try:
        yield opened[0]
    finally:
        opened[0].close()


def is_staged(parent: Path, request: bytes) -> bool:
    """Whether a run of this request left something in `parent`, or is at work there. Blocking."""
    return _path_of(parent, request).is_dir()


def remove_finished(parent: Path, request: bytes) -> None:
    """Remove what a run of this request left in `parent` when it was killed after its work. Blocking."""
    if is_staged(parent, request):
        remove_stale(_path_of(parent, request))


def stale(parent: Path) -> list[StaleStaging]:
    """Our own staging directories in `parent` that no process holds, oldest first. Blocking.

    Each is locked for an instant to find out; a run that begins in that very instant takes a fresh directory.
    """
    found = []
    with storage_errors("look through", parent):
        candidates = [entry for entry in parent.iterdir() if _NAME.fullmatch(entry.name)]
    for path in candidates:
        lock = _take_existing(path)
        if lock is None:
            continue
        lock.release()
        statuses = list(_walk(path))
        if statuses:
            newest_s = max(status.st_mtime for status in statuses)
            size_bytes = sum(_allocated_bytes(status) for status in statuses)
            age_s = max(0.0, time.time() - newest_s)
            found.append(StaleStaging(path=path, size_bytes=size_bytes, age_s=age_s))
    return sorted(found, key=lambda entry: (-entry.age_s, entry.path))


def remove_stale(path: Path) -> bool:
    """Remove a directory that `stale` named, unless a process holds it by now (False). Blocking."""
    lock = _take_existing(path) if _NAME.fullmatch(path.name) else None
    if lock is None:
        return False
    Staging(path, lock).remove()
    return True


def _path_of(parent: Path, request: bytes) -> Path:
    return parent / (_PREFIX + Digest.of(request).hex[:16])


def _take(path: Path) -> ProcessLock | None:
    """The lock of `path`, made if need be.

    None: not to be had here. A lock that isn't held: it vanished, try again.
    """
    with storage_errors("make the staging directory", path):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if not _is_private(path):
                return None
    lock = ProcessLock(path / "lock", mode=0o600)
    try:
        return lock if lock.try_acquire() else None
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return lock
        raise


def _take_existing(path: Path) -> ProcessLock | None:
    if not _is_private(path):
        return None
    try:
        is_unsettled = not (path / "lock").exists() and time.time() - path.stat().st_mtime < _UNSETTLED_S
    except FileNotFoundError:
        return None
    if is_unsettled:
        return None  # about to be locked, or all but removed
    lock = _take(path)
    return lock if lock is not None and lock.is_held else None


def _is_private(path: Path) -> bool:
    """A real directory, ours, closed to everybody else."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _walk(path: Path) -> Iterator[os.stat_result]:
    """The status of everything below `path`; what vanishes meanwhile is left out, links aren't followed."""
    for directory, _, names in os.walk(path):
        for name in [".", *names]:
            try:
                yield (Path(directory) / name).lstat()
            except FileNotFoundError:
                continue


def _allocated_bytes(status: os.stat_result) -> int:
    return min(status.st_size, status.st_blocks * 512) if stat.S_ISREG(status.st_mode) else 0
