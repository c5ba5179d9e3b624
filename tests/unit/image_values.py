"""Images as values, for tests of what needs no registry: built from bytes, nothing fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ecr_async_pull.archive.layout import BlobContent, Form, Member
from ecr_async_pull.archive.tar import padded, place
from ecr_async_pull.digest import Digest
from ecr_async_pull.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from ecr_async_pull.model.image import Layer, PlatformImage, ResolvedImage
from ecr_async_pull.model.image_config import ImageConfig
from ecr_async_pull.model.manifest import Index, Manifest
from ecr_async_pull.model.reference import ImageReference

GZIP_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
EMPTY_LAYER = bytes(1024)


def config_bytes(layers: Sequence[bytes], extra: str = "") -> bytes:
    """A config of inflated layers; `extra` is JSON text put in as it is (`"os":"linux",`)."""
    diff_ids = json.dumps([str(Digest.of(layer)) for layer in layers])
    return b'{%s"rootfs":{"type":"layers","diff_ids":%s}}' % (extra.encode(), diff_ids.encode())


def platform_image(config: bytes, layers: Sequence[bytes], *, is_oci: bool = False) -> PlatformImage:
    """The image of a config and its stored layers."""
    config_type, manifest_type = (OCI_CONFIG, OCI_MANIFEST) if is_oci else (DOCKER_CONFIG, DOCKER_MANIFEST)
    parsed = ImageConfig.parse(config)
    config_descriptor = _descriptor(config_type, config)
    descriptors = tuple(_descriptor(GZIP_LAYER, layer) for layer in layers)
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": _wire(config_descriptor),
            "layers": [_wire(descriptor) for descriptor in descriptors],
        }
    ).encode()
    manifest = Manifest(
        raw=raw,
        digest=Digest.of(raw),
        media_type=manifest_type,
        config=config_descriptor,
        layers=descriptors,
        annotations={},
    )
    return PlatformImage(
        manifest=manifest,
        config=parsed,
        config_raw=config,
        layers=tuple(
            Layer(descriptor=descriptor, diff_id=diff_id, position=position)
            for position, (descriptor, diff_id) in enumerate(zip(descriptors, parsed.diff_ids, strict=True))
        ),
    )


def resolved(
    image: PlatformImage,
    *names: str,
    reference: str = "registry.test:5000/team/app:1",
    others: tuple[PlatformImage, ...] = (),
    has_index: bool = False,
    is_all_platforms: bool = False,
) -> ResolvedImage:
    """What `reference` names: the image's manifest, or an index of it and of `others`."""
    manifests = tuple(
        Descriptor(
            media_type=each.manifest.media_type,
            digest=each.manifest.digest,
            size_bytes=len(each.manifest.raw),
        )
        for each in (image, *others)
    )
    target = manifests[0]
    indexes: tuple[Index, ...] = ()
    if has_index:
        raw = json.dumps({"schemaVersion": 2, "manifests": [_wire(each) for each in manifests]}).encode()
        indexes = (Index(raw=raw, digest=Digest.of(raw), media_type=OCI_INDEX, manifests=manifests),)
        target = Descriptor(media_type=OCI_INDEX, digest=indexes[0].digest, size_bytes=len(raw))
    return ResolvedImage(
        reference=ImageReference.parse(reference),
        target=target,
        indexes=indexes,
        image=image,
        others=others,
        names=names,
        is_all_platforms=is_all_platforms,
    )


def tar_sizes(*layers: bytes) -> dict[Digest, int]:
    return {Digest.of(layer): len(layer) for layer in layers}


def written(members: Sequence[Member], blobs: Sequence[bytes]) -> bytes:
    """The archive of `members`; `blobs` are the layers' contents, found by their digest."""
    by_digest: Mapping[Digest, bytes] = {Digest.of(blob): blob for blob in blobs}
    placements, size_bytes = place(members)
    archive = bytearray(size_bytes)
    for placement in placements:
        content = placement.member.content
        data = by_digest[content.digest] if isinstance(content, BlobContent) else content or b""
        assert len(data) == placement.member.size_bytes
        archive[placement.header_offset : placement.data_offset] = placement.header
        archive[placement.data_offset : placement.data_offset + len(data)] = data
        assert placement.data_offset + padded(len(data)) <= size_bytes - 1024
    return bytes(archive)


def by_name(members: Sequence[Member]) -> dict[str, Member]:
    return {member.name: member for member in members}


def forms(members: Sequence[Member]) -> set[Form]:
    return {member.content.form for member in members if isinstance(member.content, BlobContent)}


def _descriptor(media_type: str, raw: bytes) -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest.of(raw), size_bytes=len(raw))


def _wire(descriptor: Descriptor) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size_bytes,
    }
