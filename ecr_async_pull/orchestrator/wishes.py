"""Which blobs an output needs, and by which other name it is the same output again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..archive.layout import Form
from ..archive.naming import blob_path
from ..digest import Digest
from ..errors import IntegrityError, UnsupportedImageError
from ..model.descriptor import Descriptor
from ..model.image import Layer, PlatformImage, ResolvedImage
from ..settings import PullSettings
from ..transfer.sinks import Extent
from .request import OutputRequest

_WRITER_VERSION = 1
"""Raise it when the same input gives other bytes: outputs of earlier versions are no longer up to date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobWish:
    """An output wants this blob, as stored or inflated.

    `diff_id`: what its tar must hash to; None where it is no file system layer. `slot`: for a stored blob,
    the place in the output's partial archive where it may land at once.
    """

    descriptor: Descriptor
    diff_id: Digest | None
    registry: str
    repository: str
    form: Form
    slot: Extent | None = None


def wishes_of(
    images: Sequence[ResolvedImage], settings: PullSettings, *, slots: dict[Digest, Extent] | None = None
) -> tuple[BlobWish, ...]:
    """Every layer blob of the output, each once; `slots` are places of stored blobs in a partial archive.

    Where layers lie inflated, one blob a diff_id will do.
    """
    form = Form.TAR if settings.inflates else Form.STORED
    wishes: dict[Digest, BlobWish] = {}
    for image in images:
        for part in _parts(image, settings):
            for layer in part.layers:
                key = (
                    layer.diff_id
                    if form is Form.TAR and layer.diff_id is not None
                    else layer.descriptor.digest
                )
                known = wishes.get(key)
                if known is not None and layer.diff_id in (known.diff_id, None):
                    continue
                _check_layer(layer, image)
                if known is not None and known.diff_id is not None:
                    raise IntegrityError(
                        f"{image.reference}: layer {layer.descriptor.digest} is listed with two diff_ids,"
                        f" {known.diff_id} and {layer.diff_id}; the image has to be built and pushed again"
                    )
                wishes[key] = BlobWish(
                    descriptor=layer.descriptor,
                    diff_id=layer.diff_id,
                    registry=image.reference.registry,
                    repository=image.reference.repository,
                    form=form,
                    slot=None if slots is None else slots.get(layer.descriptor.digest),
                )
    return tuple(wishes.values())


def _parts(image: ResolvedImage, settings: PullSettings) -> tuple[PlatformImage, ...]:
    return (image.image,) if settings.inflates else (image.image, *image.others)


def _check_layer(layer: Layer, image: ResolvedImage) -> None:
    if layer.descriptor.is_encrypted:
        raise UnsupportedImageError(
            f"{image.reference}: layer {layer.descriptor.digest.short} is encrypted; decrypt the image first"
        )


def fingerprint(images: Sequence[ResolvedImage], settings: PullSettings) -> str:
    """The same for two pulls exactly if they write the same bytes."""
    document = [
        _WRITER_VERSION,
        settings.archive_format.value,
        settings.keep_compressed,
        settings.is_all_platforms,
        [
            [
                str(image.reference),
                str(image.target.digest),
                str(image.image.manifest.digest),
                [str(other.manifest.digest) for other in image.others],
                list(image.names),
            ]
            for image in images
        ],
    ]
    return str(Digest.of(msgspec.json.encode(document)))


def run_identity(paths: Sequence[Path], labels: Sequence[str], settings: PullSettings) -> bytes:
    """Names a run by what was asked for, so that the same command finds what a broken one left."""
    return msgspec.json.encode(
        [
            settings.archive_format.value,
            settings.keep_compressed,
            settings.is_all_platforms,
            [str(path) for path in paths],
            list(labels),
        ]
    )


def command_identity(requests: Sequence[OutputRequest], settings: PullSettings) -> bytes:
    """`run_identity` of a whole run: staging directories are named after it."""
    labels = [str(image.reference) for request in requests for image in request.images]
    return run_identity([request.path.absolute() for request in requests], labels, settings)


def is_cached(digest: Digest, settings: PullSettings) -> bool:
    """Whether the cache, if there is one, has a blob of this name; nothing of it is looked at."""
    return settings.cache_dir is not None and (settings.cache_dir / blob_path(digest)).exists()
