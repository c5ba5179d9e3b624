"""Which outputs are, untouched, what they were made to be: by digests and by what was asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..digest import Digest
from ..settings import ArchiveFormat, PullSettings
from ..store.records import OutputRecords
from .request import OutputRequest
from .wishes import run_identity


class KnownOutputs:
    """The records of one state directory; without one nothing is known."""

    def __init__(self, settings: PullSettings) -> None:
        self._settings = settings
        state = settings.state_dir
        self._by_digests = None if state is None else OutputRecords(state / "outputs")
        self._by_request = None if state is None else OutputRecords(state / "requests")

    async def is_as_requested(self, final: Path, request: OutputRequest) -> bool:
        """The same was asked for before, and what came of it is still there: nobody need be asked."""
        if self._by_request is None:
            return False
        return await asyncio.to_thread(
            self._by_request.is_current, final, self._requested(final, request), key=self._key(request)
        )

    async def is_current(self, final: Path, request: OutputRequest, fingerprint: str) -> bool:
        """The output is what these digests make (`wishes.fingerprint`)."""
        if self._by_digests is None:
            return False
        return await asyncio.to_thread(
            self._by_digests.is_current, final, fingerprint, key=self._key(request)
        )

    async def has_record(self, final: Path, request: OutputRequest) -> bool:
        """What was pulled to this output before is still there: it may well be up to date."""
        if self._by_digests is None:
            return False
        return await asyncio.to_thread(self._by_digests.has, final, key=self._key(request))

    async def remember(self, final: Path, request: OutputRequest, fingerprint: str) -> None:
        """The output is finished."""
        if self._by_digests is not None and self._by_request is not None:
            key, requested = self._key(request), self._requested(final, request)
            await asyncio.to_thread(self._by_digests.remember, final, fingerprint, key=key)
            await asyncio.to_thread(self._by_request.remember, final, requested, key=key)

    async def forget(self, final: Path, request: OutputRequest) -> None:
        """The output is about to change."""
        if self._by_digests is not None and self._by_request is not None:
            await asyncio.to_thread(self._by_digests.forget, final, key=self._key(request))
            await asyncio.to_thread(self._by_request.forget, final, key=self._key(request))

    def _requested(self, final: Path, request: OutputRequest) -> str:
        return str(Digest.of(run_identity([final], _labels(request), self._settings)))

    def _key(self, request: OutputRequest) -> str:
        """Several images share an OCI directory: each has a record of its own there."""
        is_shared = self._settings.archive_format is ArchiveFormat.OCI_DIRECTORY
        return "\n".join(_labels(request)) if is_shared else ""


def _labels(request: OutputRequest) -> list[str]:
    return [f"{image.reference} {image.platform} {image.names}" for image in request.images]
