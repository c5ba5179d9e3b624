"""One archive: slots for its layers, then headers and documents around them, then its final name."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..archive import formats
from ..archive.layout import BlobContent, Form, Member, Placement
from ..archive.pack import BlobKey, pack
from ..archive.tar import place
from ..deliver.file import commit_file
from ..digest import Digest
from ..model.image import ResolvedImage
from ..settings import PullSettings
from ..store.space import allocated_bytes, check_space
from ..store.staging import Staging
from ..transfer.offload import in_thread
from ..transfer.sinks import Extent, SlotSink
from .blob_use import BlobUse, all_provided
from .wishes import BlobWish, wishes_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePlan:
    """An archive to be written: where it is put together, where it goes, and the blobs that it needs."""

    final: Path
    partial: Path
    images: tuple[ResolvedImage, ...]
    wishes: tuple[BlobWish, ...]


def plan_archive(
    images: Sequence[ResolvedImage], final: Path, staging: Staging, settings: PullSettings
) -> ArchivePlan:
    """Raises `UnsupportedImageError` for an image that the format's engines refuse."""
    archive = staging.archive_path(str(final))
    slots: dict[Digest, Extent] | None = None
    if not settings.inflates:
        placements, _ = place(_members(images, settings, {}))
        slots = {
            content.digest: Extent(path=archive, offset=one.data_offset, size_bytes=content.size_bytes)
            for one, content in _blobs(placements)
        }
    else:
        # Refuses what the format can't hold before anything is fetched.
        formats.blobs(archive_format=settings.archive_format, keep_compressed=False, images=images)
    return ArchivePlan(
        final=final,
        partial=archive,
        images=tuple(images),
        wishes=wishes_of(images, settings, slots=slots),
    )


async def write_archive(plan: ArchivePlan, uses: Sequence[BlobUse], settings: PullSettings) -> None:
    """Have every blob of the plan brought to its slot, pack, and give the archive its name.

    The caller made the uses, one a wish in their order, and drops them.
    """
    sizes: dict[Digest, int] = {}
    if settings.inflates:
        sizes = await _give_slots(plan, uses, settings)
    blobs: dict[BlobKey, Extent] = {}
    for wish, use, provided in zip(plan.wishes, uses, await all_provided(uses), strict=True):
        if wish.form is Form.TAR:
            assert wish.diff_id is not None
            blobs[wish.diff_id, Form.TAR] = use.sink_extent()
            sizes[wish.diff_id] = provided.tar_size_bytes
        else:
            blobs[wish.descriptor.digest, Form.STORED] = provided.stored
    members = _members(plan.images, settings, sizes)
    await in_thread(None, partial(_finish, plan, members, blobs))


async def _give_slots(
    plan: ArchivePlan, uses: Sequence[BlobUse], settings: PullSettings
) -> dict[Digest, int]:
    """Lay the archive out by the sizes that the blobs tell, and hand out the slots."""
    told: dict[Digest, int | None] = {}
    for wish, use in zip(plan.wishes, uses, strict=True):
        assert wish.diff_id is not None
        told[wish.diff_id] = await use.tar_size()
    sizes = {diff_id: size or 0 for diff_id, size in told.items()}
    placements, total_bytes = place(_members(plan.images, settings, sizes))
    await in_thread(None, partial(_check_room, plan.partial, total_bytes))
    offsets = {content.digest: one.data_offset for one, content in _blobs(placements)}
    turn = threading.Lock()
    for wish, use in zip(plan.wishes, uses, strict=True):
        assert wish.diff_id is not None
        use.give_sink(
            SlotSink(
                archive=plan.partial,
                offset=offsets[wish.diff_id],
                slot_bytes=told[wish.diff_id],
                spill=plan.partial.with_name(f"{plan.partial.name}.{wish.diff_id.hex}"),
                turn=turn,
            )
        )
    return sizes


def _check_room(archive: Path, total_bytes: int) -> None:
    check_space({archive: max(0, total_bytes - allocated_bytes(archive))})


def _finish(plan: ArchivePlan, members: Sequence[Member], blobs: Mapping[BlobKey, Extent]) -> None:
    """Thread side."""
    pack(plan.partial, members, blobs)
    for extent in blobs.values():
        if extent.path.parent == plan.partial.parent and extent.path != plan.partial:
            extent.path.unlink(missing_ok=True)
    commit_file(plan.partial, plan.final)


def _members(
    images: Sequence[ResolvedImage], settings: PullSettings, tar_sizes: Mapping[Digest, int]
) -> tuple[Member, ...]:
    return formats.members(
        archive_format=settings.archive_format,
        keep_compressed=settings.keep_compressed,
        images=images,
        tar_sizes=tar_sizes,
    )


def _blobs(placements: Sequence[Placement]) -> list[tuple[Placement, BlobContent]]:
    return [
        (placement, placement.member.content)
        for placement in placements
        if isinstance(placement.member.content, BlobContent)
    ]
