"""An OCI directory: blobs linked or copied into it, `index.json` last and under a lock."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..archive import formats
from ..archive.layout import BlobContent, Member, MemberKind
from ..archive.naming import blob_path
from ..archive.oci import merge_index
from ..deliver.file import current_umask
from ..digest import Digest
from ..errors import StorageError, UsageError, storage_errors
from ..model.image import ResolvedImage
from ..settings import PullSettings
from ..store.atomic import write_atomic
from ..store.cache_shelf import hash_file
from ..store.locks import ProcessLock
from ..transfer.offload import in_thread
from ..transfer.sinks import Extent, copy_range
from .blob_use import BlobUse, all_provided
from .wishes import BlobWish, wishes_of

_LAYOUT_FILE = "oci-layout"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryPlan:
    """A directory to be added to, and the blobs that it doesn't have yet."""

    final: Path
    images: tuple[ResolvedImage, ...]
    wishes: tuple[BlobWish, ...]


def check_directory(path: Path) -> Path:
    """The directory that will be written, links followed; its parent must exist.

    Raises `UsageError` for what is there and no OCI layout, `StorageError` for what can't be written.
    """
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        raise StorageError(f"there is no directory {real.parent}; make it, or name another output with -o")
    if real.is_dir():
        if not (real / _LAYOUT_FILE).is_file() and any(real.iterdir()):
            raise UsageError(f"{path} holds other things than an OCI layout; name an empty or new directory")
        place = real
    elif real.exists():
        raise UsageError(f"{path} is a file; --format oci writes a directory, --format oci-archive a file")
    else:
        place = real.parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise StorageError(f"no permission to write into {place}; name another output with -o")
    return real


def plan_directory(images: Sequence[ResolvedImage], final: Path, settings: PullSettings) -> DirectoryPlan:
    """Blocking: hashes what the directory has already, and counts on what is right."""
    wishes = [
        wish
        for wish in wishes_of(images, settings)
        if not _is_there(final, wish.descriptor.digest, wish.descriptor.size_bytes)
    ]
    return DirectoryPlan(final=final, images=tuple(images), wishes=tuple(wishes))


async def write_directory(
    plan: DirectoryPlan, uses: Sequence[BlobUse], settings: PullSettings, *, after: asyncio.Event | None
) -> None:
    """Add the plan's images to the directory. The caller made the uses and drops them.

    `after` is set when the run's images before these are in the index: its order is the command's.
    """
    provided = await all_provided(uses)
    stored = {wish.descriptor.digest: one.stored for wish, one in zip(plan.wishes, provided, strict=True)}
    members = formats.members(
        archive_format=settings.archive_format, keep_compressed=False, images=plan.images, tar_sizes={}
    )
    lock = ProcessLock(plan.final / _LAYOUT_FILE)
    await in_thread(None, partial(_add_blobs, plan.final, members, stored))
    if after is not None:
        await after.wait()
    await lock.acquire()
    try:
        await in_thread(None, partial(_add_to_index, plan.final, members))
    finally:
        lock.release()


def _is_there(directory: Path, digest: Digest, size_bytes: int) -> bool:
    path = directory / blob_path(digest)
    try:
        return path.stat().st_size == size_bytes and hash_file(path, digest.algorithm)[0] == digest
    except OSError:
        return False


def _add_blobs(directory: Path, members: Sequence[Member], stored: dict[Digest, Extent]) -> None:
    with storage_errors("write", directory):
        directory.mkdir(exist_ok=True)
        for member in members:
            path = directory / member.name
            if member.kind is MemberKind.DIRECTORY:
                path.mkdir(exist_ok=True)
            elif member.name == "index.json":
                continue
            elif isinstance(member.content, BlobContent):
                extent = stored.get(member.content.digest)
                if extent is not None:
                    _place_blob(extent, path)
            elif member.name != _LAYOUT_FILE or not path.exists():
                assert isinstance(member.content, bytes)
                write_atomic(path, member.content)


def _place_blob(extent: Extent, path: Path) -> None:
    """Share the file's bytes where that can be: a hard link, a reflink, else a copy."""
    temporary = path.with_name(f".{path.name[:16]}.{secrets.token_hex(8)}.tmp")
    mode = 0o666 & ~current_umask()
    try:
        try:
            os.link(extent.path, temporary)
            if extent.path.stat().st_mode & 0o777 == 0o600:  # a staged file, private until now
                temporary.chmod(mode)
        except OSError:
            _copy(extent, temporary, mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(extent: Extent, target: Path, mode: int) -> None:
    source_fd = os.open(extent.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target_fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            copy_range(source_fd, extent.offset, target_fd, 0, extent.size_bytes)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def _add_to_index(directory: Path, members: Sequence[Member]) -> None:
    """Under the lock."""
    path = directory / "index.json"
    fresh = next(member.content for member in members if member.name == "index.json")
    assert isinstance(fresh, bytes)
    with storage_errors("write", path):
        try:
            existing = path.read_bytes()
        except FileNotFoundError:
            existing = None
        write_atomic(path, fresh if existing is None else merge_index(existing, fresh))
