"""The images of one save as Docker sees them: each image ID once, with all its names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..digest import Digest
from ..errors import UnsupportedImageError
from ..model.image import PlatformImage, ResolvedImage
from ..model.image_config import ImageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """`names` are familiar, each once, in the order asked for."""

    config: ImageConfig
    names: tuple[str, ...]


def config_of(image: PlatformImage, format_name: str) -> ImageConfig:
    """The config, or `UnsupportedImageError` where the manifest is an artifact's."""
    if image.config is None:
        raise UnsupportedImageError(
            f"no {format_name} can be written of {image.manifest.digest}: it is an artifact, not a container"
            " image; use --format oci-archive"
        )
    return image.config


def merge(images: Sequence[ResolvedImage], format_name: str) -> tuple[SavedImage, ...]:
    """Images by config, in the order in which each was first asked for."""
    configs: dict[Digest, ImageConfig] = {}
    names: dict[Digest, dict[str, None]] = {}
    for image in images:
        config = config_of(image.image, format_name)
        configs.setdefault(config.digest, config)
        names.setdefault(config.digest, {}).update(dict.fromkeys(image.names))
    return tuple(SavedImage(config=config, names=tuple(names[digest])) for digest, config in configs.items())
