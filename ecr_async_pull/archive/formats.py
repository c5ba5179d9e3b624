"""The one way into the layouts: what an archive of some images consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..digest import Digest
from ..model.image import ResolvedImage
from ..settings import ArchiveFormat
from . import docker, docker_compressed, docker_legacy, oci
from .layout import BlobContent, Form, Member


def members(
    *,
    archive_format: ArchiveFormat,
    keep_compressed: bool,
    images: Sequence[ResolvedImage],
    tar_sizes: Mapping[Digest, int],
) -> tuple[Member, ...]:
    """Every member in the order of the archive; for an OCI directory, its directories and files.

    `tar_sizes` maps every diff_id to its layer's inflated bytes; formats that keep blobs as stored don't
    look at it. Guesses will do until the sizes are known: only then are names and contents final, since
    documents of the docker-archive tell sizes. `keep_compressed` matters for the docker-archive alone.
    Raises `UnsupportedImageError` for an image that the format's engines refuse.
    """
    match archive_format:
        case ArchiveFormat.DOCKER if keep_compressed:
            return docker_compressed.members(images)
        case ArchiveFormat.DOCKER:
            return docker.members(images, tar_sizes)
        case ArchiveFormat.DOCKER_LEGACY:
            return docker_legacy.members(images, tar_sizes)
        case ArchiveFormat.OCI_ARCHIVE | ArchiveFormat.OCI_DIRECTORY:
            return oci.members(images)


def blobs(
    *, archive_format: ArchiveFormat, keep_compressed: bool, images: Sequence[ResolvedImage]
) -> tuple[tuple[Digest, Form], ...]:
    """The layer blobs that the archive holds, each once; raises as `members` does."""
    sizes = {
        layer.diff_id: 0 for image in images for layer in image.image.layers if layer.diff_id is not None
    } | {
        diff_id: 0
        for image in images
        if image.image.config is not None
        for diff_id in image.image.config.diff_ids
    }
    listed = members(
        archive_format=archive_format, keep_compressed=keep_compressed, images=images, tar_sizes=sizes
    )
    contents = [member.content for member in listed if isinstance(member.content, BlobContent)]
    return tuple(dict.fromkeys((content.digest, content.form) for content in contents))
