"""Image manifests and indexes (image-spec manifest.md, image-index.md; Docker manifest v2 schema 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from ..digest import Digest
from ..errors import IntegrityError, UnsupportedImageError
from .descriptor import (
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from .platform import Platform

_VAGUE_CONTENT_TYPES = (
    "",
    "application/json",
    "application/octet-stream",
    "binary/octet-stream",
    "text/plain",
)
_SCHEMA1_ADVICE = (
    "a schema 1 manifest, a format that was retired in 2017 and can't be verified; ask for it to be re-pushed"
    " with a current docker"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image manifest. `raw` is the bytes as they came, `digest` theirs, `media_type` the registry's."""

    raw: bytes
    digest: Digest
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One index or manifest list. `raw` is the bytes as they came; `manifests` in their order.

    Entries whose digest uses an algorithm that can't be verified here are left out of `manifests`.
    """

    raw: bytes
    digest: Digest
    media_type: str
    manifests: tuple[Descriptor, ...]


class _WirePlatform(msgspec.Struct, frozen=True):
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None
    os_version: str | None = msgspec.field(name="os.version", default=None)
    os_features: tuple[str, ...] | None = msgspec.field(name="os.features", default=None)


class _WireDescriptor(msgspec.Struct, frozen=True):
    digest: str
    size: int
    media_type: str | None = msgspec.field(name="mediaType", default=None)
    platform: _WirePlatform | None = None
    annotations: dict[str, str] | None = None
    urls: tuple[str, ...] | None = None
    artifact_type: str | None = msgspec.field(name="artifactType", default=None)


class _WireDocument(msgspec.Struct, frozen=True):
    schema_version: int | None = msgspec.field(name="schemaVersion", default=None)
    media_type: str | None = msgspec.field(name="mediaType", default=None)
    config: _WireDescriptor | None = None
    layers: tuple[_WireDescriptor, ...] | None = None
    manifests: tuple[_WireDescriptor, ...] | None = None
    annotations: dict[str, str] | None = None
    fs_layers: msgspec.Raw = msgspec.field(name="fsLayers", default=msgspec.Raw())


_DECODER = msgspec.json.Decoder(_WireDocument)


def parse_document(raw: bytes, *, content_type: str) -> Manifest | Index:
    """Decode what a registry served as a manifest; `content_type` is the response's (parameters are ignored).

    A content type that says nothing (absent, `application/json`, ...) gives way to the document's own
    `mediaType` and, without one, to its shape. Raises `UnsupportedImageError` for schema 1, type
    confusion and what isn't a manifest at all, `IntegrityError` for digests that can't be verified.
    """
    served = content_type.partition(";")[0].strip().lower()
    if served in {DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED}:
        raise UnsupportedImageError(f"this is {_SCHEMA1_ADVICE}")
    try:
        wire = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnsupportedImageError(
            f"the registry's answer is not a manifest ({error}); is {served or 'this'} an image?"
        ) from error
    media_type = _media_type(wire, served=served)
    digest = Digest.of(raw)
    if media_type in INDEX_TYPES:
        return Index(raw=raw, digest=digest, media_type=media_type, manifests=_index_entries(wire))
    if wire.config is None or wire.layers is None:
        raise UnsupportedImageError(
            f"the {media_type} has no {'config' if wire.config is None else 'layers'}:"
            " it is no container image"
        )
    return Manifest(
        raw=raw,
        digest=digest,
        media_type=media_type,
        config=_descriptor(wire.config, what="config"),
        layers=tuple(_descriptor(layer, what=f"layer {n}") for n, layer in enumerate(wire.layers, 1)),
        annotations=MappingProxyType(wire.annotations or {}),
    )


def _media_type(wire: _WireDocument, *, served: str) -> str:
    """What the document is: one kind, on which its shape, its mediaType and the server agree."""
    if bytes(wire.fs_layers) not in {b"", b"null"} or wire.schema_version == 1:
        raise UnsupportedImageError(f"this is {_SCHEMA1_ADVICE}")
    if wire.schema_version != 2:
        raise UnsupportedImageError(
            f"the registry's answer is not an image manifest (schemaVersion {wire.schema_version}, not 2)"
        )
    if served not in _VAGUE_CONTENT_TYPES and wire.media_type and wire.media_type.lower() != served:
        raise UnsupportedImageError(
            f"the manifest calls itself {wire.media_type!r} but was served as {served!r};"
            " ask for it to be re-pushed"
        )
    is_manifest_shaped = wire.config is not None or wire.layers is not None
    is_index_shaped = wire.manifests is not None
    media_type = (served if served not in _VAGUE_CONTENT_TYPES else "") or wire.media_type or ""
    if not media_type:
        media_type = OCI_INDEX if is_index_shaped and not is_manifest_shaped else OCI_MANIFEST
    if media_type in INDEX_TYPES:
        if is_manifest_shaped:
            raise UnsupportedImageError(
                "the index carries a manifest's config or layers; ask for it to be re-pushed"
            )
    elif media_type in MANIFEST_TYPES:
        if is_index_shaped:
            raise UnsupportedImageError("the manifest carries an index's entries; ask for it to be re-pushed")
    else:
        raise UnsupportedImageError(
            f"{media_type!r} is not an image manifest; pull it with the tool that pushed it"
        )
    return media_type


def _index_entries(wire: _WireDocument) -> tuple[Descriptor, ...]:
    entries = []
    for position, entry in enumerate(wire.manifests or (), 1):
        algorithm = entry.digest.partition(":")[0]
        if algorithm in {"sha256", "sha512"} or not Digest.is_grammatical(entry.digest):
            entries.append(_descriptor(entry, what=f"index entry {position}"))
    return tuple(entries)


def _descriptor(wire: _WireDescriptor, *, what: str) -> Descriptor:
    if wire.size < 0:
        raise IntegrityError(f"{what} has a negative size ({wire.size}); ask for the image to be re-pushed")
    try:
        digest = Digest.parse(wire.digest)
    except IntegrityError as error:
        raise IntegrityError(f"{what}: {error}") from error
    platform = None
    if wire.platform is not None:
        platform = Platform(
            os=wire.platform.os or "",
            architecture=wire.platform.architecture or "",
            variant=wire.platform.variant or "",
            os_version=wire.platform.os_version or "",
            os_features=wire.platform.os_features or (),
        )
    return Descriptor(
        media_type=wire.media_type or "",
        digest=digest,
        size_bytes=wire.size,
        platform=platform,
        annotations=MappingProxyType(wire.annotations or {}),
        urls=wire.urls or (),
        artifact_type=wire.artifact_type,
    )
