"""A resolved image: everything that is known before the first layer byte arrives."""

from __future__ import annotations

from dataclasses import dataclass

from ..digest import Digest
from .descriptor import Descriptor
from .image_config import ImageConfig
from .manifest import Index, Manifest
from .reference import ImageReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One entry of a manifest's `layers`. `diff_id` is None for what is no file system layer."""

    descriptor: Descriptor
    diff_id: Digest | None
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformImage:
    """One manifest with its config, whose bytes are `config_raw`; `config` is None for an artifact's."""

    manifest: Manifest
    config: ImageConfig | None
    config_raw: bytes
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedImage:
    """What one reference names.

    `target` describes what the reference resolves to in the registry: a manifest, or an index, which then is
    `indexes[0]`; `indexes` are all index documents on the way to `image` (with all platforms: every one).
    `names` are the familiar `repository:tag` names that the archive shall carry, in order; `source_name` is
    the full `registry/repository:tag` of the reference, or None where it has no tag.
    `others` are the further manifests to carry along in formats that keep blobs as stored: the attestations
    of `image`, or with all platforms everything else that the index lists.
    """

    reference: ImageReference
    target: Descriptor
    indexes: tuple[Index, ...]
    image: PlatformImage
    others: tuple[PlatformImage, ...] = ()
    names: tuple[str, ...] = ()
    is_all_platforms: bool = False
