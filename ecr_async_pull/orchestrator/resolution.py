"""From requests to resolved images: clients by registry, documents through the cache, or the cache alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from ..auth.credentials import Credentials
from ..digest import Digest
from ..errors import NotFoundError
from ..model.descriptor import Descriptor
from ..model.image import ResolvedImage
from ..model.reference import ImageReference
from ..registry.client import RegistryClient
from ..registry.http import HttpSessions
from ..registry.resolve import resolve
from ..settings import KIB, ArchiveFormat, PullPolicy, PullSettings
from ..store.cache import BlobCache
from .blob_sources import BlobSources
from .request import ImageRequest

_CONCURRENT_RESOLUTIONS = 8
_READ_BUFFER_BYTES = 128 * KIB


@dataclass(frozen=True, slots=True)
class CachedDocuments:
    """The cache behind the protocol by which documents are looked up (`registry.documents`)."""

    cache: BlobCache

    async def get(self, digest: Digest) -> tuple[bytes, str] | None:
        return await asyncio.to_thread(self.cache.get_document, digest)

    async def put(self, digest: Digest, media_type: str, raw: bytes) -> None:
        await asyncio.to_thread(self.cache.put_document, digest, media_type, raw)


class Resolver:
    """Asks registries what references name; made by `open_resolver`."""

    def __init__(
        self,
        settings: PullSettings,
        sessions: HttpSessions,
        credentials: Credentials,
        cache: BlobCache | None,
        group: asyncio.TaskGroup,
    ) -> None:
        self.sources = BlobSources(settings, client_of=self.client, sessions=sessions, group=group)
        self._sessions = sessions
        self._settings = settings
        self._credentials = credentials
        self._cache = cache
        self._documents = None if cache is None else CachedDocuments(cache)
        self._clients: dict[str, RegistryClient] = {}
        self._slots = asyncio.Semaphore(_CONCURRENT_RESOLUTIONS)

    def client(self, registry: str) -> RegistryClient:
        if registry not in self._clients:
            self._clients[registry] = RegistryClient(
                registry,
                sessions=self._sessions,
                credentials=self._credentials,
                plain_http=self._settings.connection.plain_http,
                attempts=self._settings.transfer.attempts,
                is_offline=self._settings.is_offline,
            )
        return self._clients[registry]

    async def resolve(self, request: ImageRequest, *, room_ahead_bytes: int | None = None) -> ResolvedImage:
        """What the request names; raises what asking raises, `NotFoundError` offline.

        As soon as its layers are known it is asked where they lie, unless `room_ahead_bytes` is None; and
        their first bytes are fetched, where so much room on the disk is certainly enough for the image.
        """
        async with self._slots:
            settings = self._settings
            reference = request.reference
            known = await self._known_target(reference)
            image = await resolve(
                self.client(reference.registry),
                reference if known is None else _pinned(reference, known.digest),
                platform=request.platform,
                is_all_platforms=settings.is_all_platforms,
                with_attestations=settings.archive_format is ArchiveFormat.DOCKER
                and settings.keep_compressed,
                names=request.names,
                documents=self._documents,
                on_layers=None
                if room_ahead_bytes is None
                else partial(self.sources.locate_ahead, reference.registry, room_bytes=room_ahead_bytes),
            )
            if self._cache is not None and known is None:
                await asyncio.to_thread(self._cache.remember_tag, str(reference), image.target)
            return image

    async def _known_target(self, reference: ImageReference) -> Descriptor | None:
        """What the cache remembers of the reference, where that may stand in for asking."""
        settings = self._settings
        if self._cache is None or not (settings.is_offline or settings.policy is PullPolicy.MISSING):
            return None
        known = await asyncio.to_thread(self._cache.recall_tag, str(reference))
        if known is None and settings.is_offline and reference.digest is None:
            raise NotFoundError(
                f"{reference} is not in the cache {settings.cache_dir}; pull it once without --offline"
            )
        return known


def _pinned(reference: ImageReference, digest: Digest) -> ImageReference:
    return ImageReference(
        registry=reference.registry, repository=reference.repository, tag=reference.tag, digest=digest
    )


@asynccontextmanager
async def open_resolver(
    settings: PullSettings, environment: Mapping[str, str], cache: BlobCache | None
) -> AsyncIterator[Resolver]:
    """Sessions and credentials for one run, closed at the end of the block."""
    async with HttpSessions(
        settings.connection, settings.transfer, read_buffer_bytes=_READ_BUFFER_BYTES
    ) as sessions:
        credentials = Credentials(settings.connection, environment=environment, fetch=sessions.fetch_small)
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            resolver = Resolver(settings, sessions, credentials, cache, group)
            try:
                yield resolver
            except Exception as error:
                failure = error
            finally:
                resolver.sources.cancel()
        if failure is not None:
            raise failure
