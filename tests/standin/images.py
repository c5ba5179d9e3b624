"""Images made from bytes: everything that a registry could serve, with every digest worked out here.

Nothing in this module comes from the product, so what the product says can be held against it. The same
calls give the same bytes. Specs: image-spec (manifest.md, config.md, layer.md), Docker manifest v2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .layers import (
    DOCKER,
    OCI,
    BuiltLayer,
    Compression,
    Files,
    compress,
    layer_media_type,
    make_layer,
    make_tar,
    sha256,
)

__all__ = [
    "BuiltImage",
    "BuiltLayer",
    "ImageBuilder",
    "compact",
    "compress",
    "layer_media_type",
    "make_layer",
    "make_tar",
    "seal",
    "sha256",
]

DOCKER_MANIFEST = DOCKER + "distribution.manifest.v2+json"
DOCKER_LIST = DOCKER + "distribution.manifest.list.v2+json"
DOCKER_CONFIG = DOCKER + "container.image.v1+json"
SCHEMA1_SIGNED = DOCKER + "distribution.manifest.v1+prettyjws"
OCI_MANIFEST = OCI + "manifest.v1+json"
OCI_INDEX = OCI + "index.v1+json"
OCI_CONFIG = OCI + "config.v1+json"
CREATED = "2024-05-06T07:08:09Z"
DIFF_IDS = b"@DIFF_IDS@"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """A manifest (or an index, whose manifests are its `children`) with all that it refers to.

    `platform` is `os/arch[/variant]`, or None; `entry_annotations` are what an index says of it.
    """

    manifest_raw: bytes
    media_type: str
    config_raw: bytes = b""
    layers: tuple[BuiltLayer, ...] = ()
    children: tuple[BuiltImage, ...] = ()
    platform: str | None = None
    entry_annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return sha256(self.manifest_raw)

    @property
    def config_digest(self) -> str:
        """The image ID."""
        return sha256(self.config_raw)

    def entry(self) -> dict[str, Any]:
        """How an index lists it."""
        wire: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.manifest_raw),
        }
        if self.platform is not None:
            os_name, architecture, *variant = self.platform.split("/")
            wire["platform"] = {"architecture": architecture, "os": os_name}
            if variant:
                wire["platform"]["variant"] = variant[0]
        if self.entry_annotations:
            wire["annotations"] = dict(self.entry_annotations)
        return wire

    def child(self, platform: str) -> BuiltImage:
        """The manifest that an index lists for exactly this platform."""
        return next(each for each in self.children if each.platform == platform)


class ImageBuilder:
    """Collects layers and says what the config and manifest hold; `build` may be called many times."""

    def __init__(self, *, oci: bool = False, platform: str = "linux/amd64") -> None:
        self.oci = oci
        self.platform = platform
        self.layers: list[BuiltLayer] = []
        self._config: Mapping[str, Any] | bytes = {}
        self._extra: dict[str, Any] = {}

    def layer(
        self,
        content: Files | bytes,
        *,
        compression: Compression = "gzip",
        level: int = 6,
        members: int = 1,
        media_type: str | None = None,
        urls: Iterable[str] = (),
        annotations: Mapping[str, str] | None = None,
        is_served: bool = True,
    ) -> Self:
        """Append a layer; see `make_layer`."""
        return self.add(
            make_layer(
                content,
                oci=self.oci,
                compression=compression,
                level=level,
                members=members,
                media_type=media_type,
                urls=urls,
                annotations=annotations,
                is_served=is_served,
            )
        )

    def add(self, *layers: BuiltLayer) -> Self:
        """Append layers that exist already; one may come twice."""
        self.layers += layers
        return self

    def config(self, config: Mapping[str, Any] | bytes) -> Self:
        """Keys that replace the default config's (None leaves the key out), or the very bytes.

        In bytes, `@DIFF_IDS@` becomes the JSON array of the layers' diff_ids.
        """
        self._config = config
        return self

    def manifest(self, **extra: Any) -> Self:
        """Further keys of the manifest: annotations, artifactType, subject."""
        self._extra |= extra
        return self

    def build(self) -> BuiltImage:
        raw = self._config_raw()
        config_type = OCI_CONFIG if self.oci else DOCKER_CONFIG
        return seal(raw, config_type, self.layers, oci=self.oci, platform=self.platform, **self._extra)

    def _config_raw(self) -> bytes:
        diff_ids = [layer.diff_id for layer in self.layers]
        if isinstance(self._config, bytes):
            return self._config.replace(DIFF_IDS, compact(diff_ids))
        os_name, architecture, *variant = self.platform.split("/")
        history = [
            {"created": CREATED, "created_by": f"/bin/sh -c #(nop) ADD layer {position} in /"}
            for position, _ in enumerate(self.layers)
        ]
        config: dict[str, Any] = {
            "architecture": architecture,
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
            "created": CREATED,
            "history": history,
            "os": os_name,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "variant": variant[0] if variant else None,
        }
        return compact({key: value for key, value in {**config, **self._config}.items() if value is not None})


def compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def seal(
    config_raw: bytes,
    config_type: str,
    layers: Iterable[BuiltLayer],
    *,
    oci: bool,
    platform: str | None = None,
    entry_annotations: Mapping[str, str] | None = None,
    **extra: Any,
) -> BuiltImage:
    """The manifest over this config and these layers, in Docker's spelling or OCI's."""
    layers = tuple(layers)
    media_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config_type, "size": len(config_raw), "digest": sha256(config_raw)},
        "layers": [layer.descriptor() for layer in layers],
        **extra,
    }
    raw = compact(document) if oci else json.dumps(document, indent=3).encode()
    return BuiltImage(
        manifest_raw=raw,
        media_type=media_type,
        config_raw=config_raw,
        layers=layers,
        platform=platform,
        entry_annotations=entry_annotations or {},
    )
