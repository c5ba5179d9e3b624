"""The pack step: headers, documents and padding around the layers that already lie in the partial archive.

Where every layer lies in its slot nothing of it is written again. Where a size could not be known before, the
archive is put together anew from where the layers are. Blocking: call through a thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..digest import Digest
from ..errors import storage_errors
from ..transfer.sinks import Extent, copy_range, write_at
from .layout import BlobContent, Form, Member, Placement
from .tar import END_BYTES, padded, place

BlobKey = tuple[Digest, Form]


def pack(partial: Path, members: Sequence[Member], blobs: Mapping[BlobKey, Extent]) -> int:
    """Make `partial` the finished archive of these members; returns its size in bytes.

    `blobs` says where the verified bytes of each `BlobContent` lie: in `partial` or in another file.
    Raises `StorageError`.
    """
    placements, total_bytes = place(members)
    is_in_place = all(
        _extent(placement, blobs) == Extent(path=partial, offset=placement.data_offset, size_bytes=size)
        for placement in placements
        if isinstance(placement.member.content, BlobContent) and (size := placement.member.size_bytes)
    )
    target = partial if is_in_place else partial.with_name(partial.name + ".assembled")
    with storage_errors("write", target):
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, total_bytes)
            for placement in placements:
                _write_member(fd, placement, blobs, copies=not is_in_place)
            write_at(fd, bytes(END_BYTES), total_bytes - END_BYTES)
        finally:
            os.close(fd)
        if not is_in_place:
            target.replace(partial)
    return total_bytes


def _write_member(fd: int, placement: Placement, blobs: Mapping[BlobKey, Extent], *, copies: bool) -> None:
    member = placement.member
    write_at(fd, placement.header, placement.header_offset)
    if isinstance(member.content, bytes):
        write_at(fd, member.content, placement.data_offset)
    elif isinstance(member.content, BlobContent) and copies and member.size_bytes:
        _copy(fd, placement.data_offset, _extent(placement, blobs))
    padding = padded(member.size_bytes) - member.size_bytes
    if padding:
        write_at(fd, bytes(padding), placement.data_offset + member.size_bytes)


def _extent(placement: Placement, blobs: Mapping[BlobKey, Extent]) -> Extent:
    content = placement.member.content
    assert isinstance(content, BlobContent)
    extent = blobs[content.digest, content.form]
    assert extent.size_bytes == content.size_bytes, (extent, content)
    return extent


def _copy(fd: int, offset: int, extent: Extent) -> None:
    source = os.open(extent.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy_range(source, extent.offset, fd, offset, extent.size_bytes)
    finally:
        os.close(source)
