"""What a registry serves besides plain images: indexes, attestations, charts, schema 1."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .images import (
    DOCKER_LIST,
    OCI_CONFIG,
    OCI_INDEX,
    SCHEMA1_SIGNED,
    BuiltImage,
    BuiltLayer,
    compact,
    make_tar,
    seal,
    sha256,
)


def make_index(children: Iterable[BuiltImage], *, oci: bool = True, **extra: Any) -> BuiltImage:
    """An index (or Docker's manifest list) over images, attestations and further indexes, in this order."""
    children = tuple(children)
    media_type = OCI_INDEX if oci else DOCKER_LIST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [child.entry() for child in children],
        **extra,
    }
    raw = compact(document) if oci else json.dumps(document, indent=3).encode()
    return BuiltImage(manifest_raw=raw, media_type=media_type, children=children)


def make_attestation(image: BuiltImage) -> BuiltImage:
    """The provenance that BuildKit lists beside `image`, as platform `unknown/unknown`."""
    statement = compact(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "pkg:docker/app@1.0", "digest": {"sha256": image.digest[7:]}}],
            "predicate": {"buildType": "https://mobyproject.org/buildkit@v1"},
        }
    )
    layer = _blob(statement, "application/vnd.in-toto+json", predicate="https://slsa.dev/provenance/v0.2")
    config = compact(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        }
    )
    return seal(
        config,
        OCI_CONFIG,
        [layer],
        oci=True,
        platform="unknown/unknown",
        entry_annotations={
            "vnd.docker.reference.digest": image.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        },
    )


def make_helm_chart() -> BuiltImage:
    """A Helm chart as `helm push` stores it: an OCI manifest that is no image."""
    chart = make_tar([("app/Chart.yaml", b"apiVersion: v2\nname: app\nversion: 0.1.0\n")])
    config = compact({"name": "app", "version": "0.1.0", "apiVersion": "v2"})
    layer = _blob(chart, "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    return seal(config, "application/vnd.cncf.helm.config.v1+json", [layer], oci=True)


def make_artifact() -> BuiltImage:
    """An OCI 1.1 artifact with the empty config."""
    layer = _blob(b"a signature, or anything", "application/vnd.example.signature")
    kind = "application/vnd.example.thing"
    return seal(b"{}", "application/vnd.oci.empty.v1+json", [layer], oci=True, artifactType=kind)


def make_schema1(image: BuiltImage) -> BuiltImage:
    """The layers of `image` in the manifest form that engines gave up."""
    ids = [sha256(b"%d" % at)[7:] for at, _ in enumerate(image.layers)]
    history = [{"id": own} | ({"parent": ids[at - 1]} if at else {}) for at, own in enumerate(ids)]
    document = {
        "schemaVersion": 1,
        "name": "team/old",
        "tag": "1.0",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": layer.digest} for layer in reversed(image.layers)],
        "history": [{"v1Compatibility": json.dumps(each)} for each in reversed(history)],
        "signatures": [],
    }
    raw = json.dumps(document, indent=3).encode()
    return BuiltImage(manifest_raw=raw, media_type=SCHEMA1_SIGNED, layers=image.layers)


def _blob(data: bytes, media_type: str, *, predicate: str | None = None) -> BuiltLayer:
    return BuiltLayer(
        media_type=media_type,
        digest=sha256(data),
        size_bytes=len(data),
        diff_id=sha256(data),
        tar_size_bytes=len(data),
        data=data,
        annotations={"in-toto.io/predicate-type": predicate} if predicate else {},
    )
