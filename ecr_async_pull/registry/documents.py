"""Documents, configs and images of one repository, through a store of what earlier pulls fetched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..digest import Digest, check_bytes
from ..errors import IntegrityError, NotFoundError, UnsupportedImageError
from ..model.descriptor import CONFIG_TYPES, Descriptor
from ..model.image import Layer, PlatformImage
from ..model.image_config import ImageConfig
from ..model.manifest import Index, Manifest, parse_document
from ..model.platform import is_attestation
from ..model.reference import ImageReference
from ..settings import MIB
from .client import RegistryClient

_log = logging.getLogger(__name__)

_CONFIG_CAP_BYTES = 16 * MIB
_CONCURRENT_REQUESTS = 8
_HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"


class DocumentStore(Protocol):
    """Small documents kept between runs by their digest. `get` may hand out anything: it is checked again."""

    async def get(self, digest: Digest) -> tuple[bytes, str] | None:
        """The bytes and their media type."""

    async def put(self, digest: Digest, media_type: str, raw: bytes) -> None:
        """Keep what was verified; trouble in keeping it is the store's own."""


LayersKnown = Callable[[str, Sequence[Descriptor]], None]
"""Told of a repository's layers as soon as a manifest has named them, before the config is asked for."""


@dataclass(slots=True, kw_only=True)
class ImageReader:
    """Reads one repository; asks the registry only for what `documents` doesn't have."""

    client: RegistryClient
    repository: str
    documents: DocumentStore | None
    on_layers: LayersKnown | None = None
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_CONCURRENT_REQUESTS))

    async def top(self, reference: ImageReference) -> Manifest | Index:
        """The document that the reference names; a digest decides, a tag beside it is only a name."""
        if reference.digest is None:
            assert reference.tag is not None
            named = await self.client.fetch_document(self.repository, reference.tag)
            await self._keep(named)
            return named
        known = await self._known(reference.digest)
        if known is not None:
            try:
                return parse_document(known[0], content_type=known[1])
            except (UnsupportedImageError, IntegrityError):
                _log.debug("a kept document can't be read; asking again")
        try:
            document = await self.client.fetch_document(self.repository, str(reference.digest))
        except NotFoundError:
            if reference.tag is None:
                raise
            # A pull-through cache imports by tag alone.
            document = await self.client.fetch_document(self.repository, reference.tag)
            if document.digest != reference.digest:
                raise IntegrityError(
                    f"{reference.name}:{reference.tag} is {document.digest}, not {reference.digest};"
                    " correct one of them"
                ) from None
        await self._keep(document)
        return document

    async def document(self, entry: Descriptor) -> Manifest | Index:
        """An index's entry."""
        known = await self._known(entry.digest)
        if known is not None:
            return parse_document(known[0], content_type=known[1])
        async with self.slots:
            document = await self.client.fetch_document(self.repository, str(entry.digest), expected=entry)
        await self._keep(document)
        return document

    async def image(self, manifest: Manifest, *, what: str) -> PlatformImage:
        """The image of a manifest. Raises `UnsupportedImageError` for what is none."""
        if manifest.config.media_type not in CONFIG_TYPES:
            raise UnsupportedImageError(_refusal(manifest, what=what))
        for layer in manifest.layers:
            if layer.is_encrypted:
                raise UnsupportedImageError(
                    f"{what} has encrypted layers ({layer.media_type}); pull a plain copy"
                )
        if self.on_layers is not None:
            self.on_layers(self.repository, manifest.layers)
        raw = await self._small_blob(manifest.config)
        try:
            config = ImageConfig.parse(raw)
        except UnsupportedImageError as error:
            raise UnsupportedImageError(f"{what}: {error}") from error
        if len(config.diff_ids) != len(manifest.layers):
            raise IntegrityError(
                f"{what}: its manifest lists {len(manifest.layers)} layers, its config"
                f" {len(config.diff_ids)}; ask for it to be re-pushed"
            )
        pairs = zip(manifest.layers, config.diff_ids, strict=True)
        return PlatformImage(
            manifest=manifest,
            config=config,
            config_raw=raw,
            layers=tuple(
                Layer(descriptor=layer, diff_id=diff_id, position=position)
                for position, (layer, diff_id) in enumerate(pairs)
            ),
        )

    async def companion(self, entry: Descriptor) -> PlatformImage:
        """An index's entry to be carried along: an image, or as an artifact whatever else it is."""
        document = await self.document(entry)
        if isinstance(document, Index):
            raise UnsupportedImageError(f"{entry.digest} was listed as a manifest but is an index")
        if document.config.media_type in CONFIG_TYPES and not is_attestation(entry):
            return await self.image(document, what=f"{self.repository}@{entry.digest}")
        layers = (
            Layer(descriptor=layer, diff_id=None, position=n) for n, layer in enumerate(document.layers)
        )
        return PlatformImage(
            manifest=document,
            config=None,
            config_raw=await self._small_blob(document.config),
            layers=tuple(layers),
        )

    async def _small_blob(self, descriptor: Descriptor) -> bytes:
        known = await self._known(descriptor.digest)
        if known is not None:
            return known[0]
        async with self.slots:
            raw = await self.client.fetch_small_blob(self.repository, descriptor, cap_bytes=_CONFIG_CAP_BYTES)
        if self.documents is not None:
            await self.documents.put(descriptor.digest, descriptor.media_type, raw)
        return raw

    async def _known(self, digest: Digest) -> tuple[bytes, str] | None:
        known = None if self.documents is None else await self.documents.get(digest)
        if known is not None:
            try:
                check_bytes(known[0], digest=digest, size_bytes=None, what="a kept document")
            except IntegrityError as error:
                _log.warning("%s; asking again", error)
                return None
        return known

    async def _keep(self, document: Manifest | Index) -> None:
        if self.documents is not None:
            await self.documents.put(document.digest, document.media_type, document.raw)


def _refusal(manifest: Manifest, *, what: str) -> str:
    media_type = manifest.config.media_type or "no media type"
    if media_type == _HELM_CONFIG:
        return f"{what} is a Helm chart, not a container image; pull it with: helm pull oci://..."
    return (
        f"{what} is an artifact ({media_type}), not a container image; pull it with the tool that pushed it"
    )
