"""An output's hold on a blob, and what all holds on one blob share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ..archive.layout import Form
from ..errors import NotFoundError, PullError
from ..transfer.engine import BlobTicket
from ..transfer.sinks import Extent, Sink
from .wishes import BlobWish


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """A verified blob: its stored bytes lie at `stored`; `tar_size_bytes` is 0 if nobody inflated it."""

    stored: Extent
    tar_size_bytes: int


class BlobUse:
    """One output's hold on one blob, from `BlobPool.use` until `drop`."""

    def __init__(self, wish: BlobWish, entry: BlobEntry, *, is_first: bool) -> None:
        loop = asyncio.get_running_loop()
        self.wish = wish
        self._entry = entry
        self._is_first = is_first
        self.sink: asyncio.Future[Sink | None] = loop.create_future()
        self.result: asyncio.Future[Provided] = loop.create_future()
        if wish.form is Form.STORED:
            self.sink.set_result(None)

    async def tar_size(self) -> int | None:
        """The inflated size in bytes as the blob tells it, unverified; None where it doesn't."""
        return await asyncio.shield(self._entry.hint)

    def give_sink(self, sink: Sink) -> None:
        """Where the inflated bytes shall go."""
        if not self.sink.done():
            self.sink.set_result(sink)

    def sink_extent(self) -> Extent:
        """Where the inflated bytes lie; once the blob is provided."""
        sink = self.sink.result()
        assert sink is not None
        return sink.extent

    @property
    def fetched_bytes(self) -> int:
        """What came over the network on this use's account."""
        return self._entry.fetched_bytes if self._is_first else 0

    def drop(self) -> None:
        """The output is done or failed; idempotent. A blob that nobody wants any more is given up."""
        if not self.sink.done():
            self.sink.set_result(None)
        self._entry.drop(self)


class BlobEntry:
    """One distinct blob."""

    def __init__(self, wish: BlobWish) -> None:
        self.wish = wish
        self.digest = wish.descriptor.digest
        self.size_bytes = wish.descriptor.size_bytes
        self.hint: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.waiting: list[BlobUse] = []
        self.served: list[BlobUse] = []
        self.users: set[BlobUse] = set()
        self.ticket: BlobTicket | None = None
        self.provided: Provided | None = None
        self.fetched_bytes = 0
        self.is_running = False

    def drop(self, use: BlobUse) -> None:
        self.users.discard(use)
        if not self.users and self.ticket is not None and self.is_running:
            self.ticket.abandon(NotFoundError(f"blob {self.digest} is no longer wanted"))

    def announce(self, tar_size_bytes: int | None) -> None:
        if not self.hint.done():
            self.hint.set_result(tar_size_bytes)

    def fail(self, error: PullError) -> None:
        if not self.hint.done():
            self.hint.set_exception(error)
            self.hint.exception()  # whoever waits still gets it; nobody may
        for use in self.waiting:
            if not use.result.done():
                use.result.set_exception(error)
                use.result.exception()
        self.waiting.clear()


async def all_provided(uses: Sequence[BlobUse]) -> tuple[Provided, ...]:
    """Wait until every blob is verified and in its sink; the first that fails is raised at once."""
    results = [use.result for use in uses]
    if results:
        await asyncio.wait(results, return_when=asyncio.FIRST_EXCEPTION)
    for result in results:
        if result.done() and result.exception() is not None:
            result.result()
    return tuple(result.result() for result in results)
