"""Where the blobs of a run come from: one source a blob and repository, shared by all who want it.

Where a layer lies is asked for as soon as its manifest is known, while the config is still on its way: that
saves a round trip, and brings the connections up. Only of ECR, which always answers with a redirect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from ..auth.ecr_host import parse_ecr_host
from ..digest import Digest
from ..errors import PullError
from ..model.descriptor import Descriptor
from ..registry.client import RegistryClient
from ..registry.http import HttpSessions
from ..settings import PullSettings
from ..transfer.blob_source import BlobSource
from .wishes import is_cached

_LOG = logging.getLogger(__name__)


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
        self._slots = asyncio.Semaphore(settings.transfer.max_connections)
        self._tasks: set[asyncio.Task[None]] = set()

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
            )
        return self._sources[key]

    def locate_ahead(self, registry: str, repository: str, layers: Sequence[Descriptor]) -> None:
        """Begin to ask where these layers lie, but for those that the cache has."""
        if parse_ecr_host(registry) is None or self._settings.is_offline:
            return
        for layer in dict.fromkeys(layers):
            key = (registry, repository, layer.digest)
            if key in self._sources or layer.urls or is_cached(layer.digest, self._settings):
                continue
            task = self._group.create_task(self._locate(self.source(registry, repository, layer)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Nobody needs to know any more."""
        for task in self._tasks:
            task.cancel()

    async def _locate(self, source: BlobSource) -> None:
        try:
            async with self._slots:
                await source.locate()
        except PullError as error:
            _LOG.debug("asking ahead: %s", error)
