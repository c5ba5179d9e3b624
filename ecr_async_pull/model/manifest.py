"""Image manifests and indexes (image-spec manifest.md, image-index.md; Docker manifest v2 schema 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..digest import Digest
from .descriptor import Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image manifest. `raw` is the bytes as they came; `digest` is theirs; `media_type` the registry's."""

    raw: bytes
    digest: Digest
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One index or manifest list. `raw` is the bytes as they came; `manifests` in their order."""

    raw: bytes
    digest: Digest
    media_type: str
    manifests: tuple[Descriptor, ...]


def parse_document(raw: bytes, *, content_type: str) -> Manifest | Index:
    """Decode what a registry served as a manifest; `content_type` is the response's (parameters are ignored).

    Raises `UnsupportedImageError` for schema 1, type confusion and what isn't a manifest at all.
    """
    raise NotImplementedError
