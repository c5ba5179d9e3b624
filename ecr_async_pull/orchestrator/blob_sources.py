"""Where the blobs of a run come from: one source a blob and repository, shared by all who want it.

As soon as a manifest is known, while the config is still on its way, it is asked where the layers lie, and
the range of each that is needed first is fetched into memory: that saves round trips, and brings the
connections up. Only of ECR, which always answers with a redirect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from ..auth.ecr_host import parse_ecr_host
from ..digest import Digest
from ..errors import PullError
from ..model.descriptor import Descriptor
from ..registry.client import RegistryClient
from ..registry.http import HttpSessions
from ..settings import KIB, MIB, PullSettings
from ..transfer.blob_source import BlobSource, FetchedAhead
from ..transfer.places import Places
from ..transfer.segments import SMALL_RUN_BYTES, first_range
from .wishes import is_cached

_LOG = logging.getLogger(__name__)
_MOST_AHEAD_BYTES = 4 * MIB
_LARGEST_AHEAD_BYTES = 64 * KIB  # a kill loses what is in memory
_COPIES = 2


class BlobSources:
    """Made for one run; tasks run in `group`, and their failures are left to whoever needs the blob."""

    def __init__(
        self,
        settings: PullSettings,
        *,
        client_of: Callable[[str], RegistryClient],
        sessions: HttpSessions,
        group: asyncio.TaskGroup,
    ) -> None:
        self._settings = settings
        self._client_of = client_of
        self._sessions = sessions
        self._group = group
        self._sources: dict[tuple[str, str, Digest], BlobSource] = {}
        self.storage_places = Places()
        self._asking = Places()
        self._named_bytes = 0
        self._ahead: dict[Digest, FetchedAhead] = {}
        self._ahead_bytes = 0
        self._tasks: set[asyncio.Task[bytes | None]] = set()

    def source(self, registry: str, repository: str, descriptor: Descriptor) -> BlobSource:
        """The source of this blob."""
        key = (registry, repository, descriptor.digest)
        if key not in self._sources:
            self._sources[key] = BlobSource(
                client=self._client_of(registry),
                storage=self._sessions.storage,
                repository=repository,
                digest=descriptor.digest,
                size_bytes=descriptor.size_bytes,
                urls=descriptor.urls,
                plain_http=self._settings.connection.plain_http,
                ahead=self._ahead,
            )
        return self._sources[key]

    def locate_ahead(
        self, registry: str, repository: str, layers: Sequence[Descriptor], *, room_bytes: int
    ) -> None:
        """Begin to ask where these layers lie, but for those that the cache has.

        The first range of each is fetched too where all blobs find room in `room_bytes`, stored and
        unpacked; 0 where some may be here already.
        """
        if parse_ecr_host(registry) is None or self._settings.is_offline:
            return
        self._named_bytes += sum(layer.size_bytes for layer in layers)
        fetches = _COPIES * self._named_bytes <= room_bytes
        for layer in dict.fromkeys(layers):
            key = (registry, repository, layer.digest)
            if key in self._sources or layer.urls or is_cached(layer.digest, self._settings):
                continue
            span = self._first_range(layer) if fetches and layer.digest not in self._ahead else None
            source = self.source(registry, repository, layer)
            task = self._group.create_task(self._locate(source, span))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if span is not None:
                self._ahead_bytes += span[1] - span[0]
                self._ahead[layer.digest] = FetchedAhead(start=span[0], end=span[1], task=task)

    def cancel(self) -> None:
        """Nobody needs to know any more."""
        for task in self._tasks:
            task.cancel()

    def _first_range(self, layer: Descriptor) -> tuple[int, int] | None:
        span = first_range(
            layer.media_type,
            layer.size_bytes,
            most_bytes=min(self._settings.transfer.segment_bytes, _LARGEST_AHEAD_BYTES),
            wants_tar_size=self._settings.inflates,
        )
        if span is None or self._ahead_bytes + span[1] - span[0] > _MOST_AHEAD_BYTES:
            return None
        return span

    async def _locate(self, source: BlobSource, span: tuple[int, int] | None) -> bytes | None:
        try:
            async with self._asking.hold(self._most):
                await source.locate()
            return None if span is None else await source.read(*span, self._storage_place)
        except PullError as error:
            _LOG.debug("asking ahead: %s", error)
            return None

    def _storage_place(self) -> AbstractAsyncContextManager[None]:
        return self.storage_places.hold(self._most)

    def _most(self) -> int:
        """How many connections are worth opening before it is known what has to be fetched."""
        most = self._settings.transfer.max_connections
        return most if self._named_bytes <= SMALL_RUN_BYTES else max(1, most // 4)
