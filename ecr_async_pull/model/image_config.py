"""The image's JSON config (image-spec config.md), read by the rules of Go's decoder as engines do."""

from __future__ import annotations

from dataclasses import dataclass

from ..digest import Digest
from .platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """`raw` is the bytes as they came, `digest` (the image ID) theirs. `created_s` is whole Unix seconds, None if absent."""

    raw: bytes
    digest: Digest
    platform: Platform
    diff_ids: tuple[Digest, ...]
    created_s: int | None

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """Raises `UnsupportedImageError`, naming the field, for a config that engines refuse."""
        raise NotImplementedError
