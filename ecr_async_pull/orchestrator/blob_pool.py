"""Every distinct blob of a run, once: who wants it, where it lies, when it is verified.

An output makes a wish for each of its blobs. The first wish starts the blob; a layer is inflated once for all
outputs that want it at that time. A blob in a shared cache is never held back for anything that another
process may hold: where the slots to unpack to aren't known by the time it has landed, it is verified and
committed first, and unpacked from the cache later.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ..archive.layout import Form
from ..digest import Digest
from ..errors import IntegrityError, NotFoundError, PullError
from ..progress.events import Progress
from ..settings import PullSettings, Verify
from ..store.cache import BlobCache
from ..store.cache_index import BlobFacts
from ..store.journal import Journal, journal_path
from ..store.staging import Staging
from ..transfer.engine import BlobJob, BlobTicket, Engine, Place, Trust
from ..transfer.offload import first_of, in_thread
from ..transfer.sinks import Extent, Sink
from .blob_use import BlobEntry, BlobUse, Provided
from .resolution import Resolver
from .wishes import BlobWish


class BlobPool:
    """All blobs of one run. Blob tasks run in `group`; one blob's failure is its users' alone."""

    def __init__(
        self,
        *,
        settings: PullSettings,
        engine: Engine,
        group: asyncio.TaskGroup,
        resolver: Resolver,
        cache: BlobCache | None,
        staging: Staging,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._group = group
        self._resolver = resolver
        self._cache = cache
        self._staging = staging
        self._progress = progress
        self._entries: dict[Digest, BlobEntry] = {}
        self._planned: Counter[Digest] = Counter()

    def plan(self, wishes: Iterable[BlobWish]) -> None:
        """Announce an output's wishes before any is used, so that it is known what outputs share."""
        self._planned.update({wish.descriptor.digest for wish in wishes})

    def use(self, wish: BlobWish) -> BlobUse:
        """Want a blob; starts it for its first user."""
        digest = wish.descriptor.digest
        entry = self._entries.get(digest)
        is_first = entry is None
        if entry is None:
            entry = self._entries[digest] = BlobEntry(wish)
        use = BlobUse(wish, entry, is_first=is_first)
        if wish.diff_id is not None and entry.wish.diff_id not in (None, wish.diff_id):
            use.result.set_exception(
                IntegrityError(
                    f"layer {digest} is listed with two diff_ids, {entry.wish.diff_id} and {wish.diff_id};"
                    " the image has to be built and pushed again"
                )
            )
            use.result.exception()
            return use
        entry.users.add(use)
        entry.waiting.append(use)
        if not entry.is_running:
            entry.is_running = True
            self._group.create_task(self._run(entry))
        return use

    async def release(self, digests: Iterable[Digest]) -> None:
        """An output is finished: remove staged blobs that no other planned output wants."""
        given = set(digests)
        self._planned.subtract(given)
        if self._cache is not None:
            return
        unwanted = [digest for digest in given if self._planned[digest] <= 0]
        async with asyncio.TaskGroup() as group:  # to free a gigabyte of page cache takes a tenth of a second
            for digest in unwanted:
                path = self._staging.partial_blob_path(digest)
                group.create_task(in_thread(None, partial(_remove, path)))

    async def _run(self, entry: BlobEntry) -> None:
        try:
            while entry.waiting:
                if entry.provided is None:
                    await self._provide(entry)
                else:
                    await self._provide_again(entry, entry.provided)
        except PullError as error:
            entry.fail(error)
        finally:
            entry.is_running = False

    async def _provide(self, entry: BlobEntry) -> None:
        """Fetch, verify and unpack; kept bytes that turn out wrong are thrown away and fetched, once."""
        try:
            await self._obtain(entry)
        except IntegrityError:
            kept = entry.ticket is not None and entry.ticket.place.landed
            if not kept:
                raise
            self._progress.message(f"{entry.digest.short}: what was kept of it is damaged; fetching it again")
            await in_thread(None, partial(self._discard, entry.digest))
            await self._obtain(entry)

    def _discard(self, digest: Digest) -> None:
        if self._cache is not None:
            self._cache.drop_if_damaged(digest)
            return
        _remove(self._staging.partial_blob_path(digest))

    async def _obtain(self, entry: BlobEntry) -> None:
        cache = self._cache
        if cache is None:
            await self._obtain_staged(entry)
            return
        place = await self._cached_place(entry, cache)
        if place is None:
            async with cache.ingest(entry.digest, entry.size_bytes, caller_hashes=True) as ingest:
                if not ingest.is_present:
                    place = Place(path=ingest.path, log=ingest.journal, landed=ingest.journal.ranges)
                    try:
                        ticket = await self._start(entry, place, known_tar_size=None)
                        is_unpacked = await self._slots_are_known(entry, ticket)
                        if is_unpacked:
                            tar_size = await self._process(entry, ticket)
                        else:
                            tar_size = await ticket.process((), inflates=False)
                    except IntegrityError:
                        await _release(entry)
                        await in_thread(None, ingest.journal.reset)
                        raise
                    finally:
                        await _release(entry)
                    path = await ingest.commit(self._facts(entry, tar_size))
                    if is_unpacked:
                        self._deliver(
                            entry, Extent(path=path, offset=0, size_bytes=entry.size_bytes), tar_size
                        )
                        return
                    place = Place(path=path, landed=((0, entry.size_bytes),), trust=Trust.STORED)
            if place is None:
                place = await self._cached_place(entry, cache)
                if place is None:
                    raise IntegrityError(f"blob {entry.digest} vanished from the cache; pull again")
        await self._process_cached(entry, place, cache)

    async def _process_cached(self, entry: BlobEntry, place: Place, cache: BlobCache) -> None:
        facts = await asyncio.to_thread(cache.facts, entry.digest)
        ticket = await self._start(entry, place, known_tar_size=facts.tar_size_bytes if facts else None)
        tar_size = await self._process(entry, ticket)
        await asyncio.to_thread(cache.confirm, entry.digest, self._facts(entry, tar_size))
        self._deliver(entry, Extent(path=place.path, offset=0, size_bytes=entry.size_bytes), tar_size)

    async def _cached_place(self, entry: BlobEntry, cache: BlobCache) -> Place | None:
        def find() -> Place | None:
            path = cache.find(entry.digest, entry.size_bytes, caller_hashes=True)
            if path is None:
                return None
            trust = Trust.NONE
            if cache.is_settled(entry.digest) and not self._settings.checks_cache:
                facts = cache.facts(entry.digest)
                is_known = facts is not None and facts.diff_id == entry.wish.diff_id is not None
                trust = Trust.FULL if is_known else Trust.STORED
            return Place(path=path, landed=((0, entry.size_bytes),), trust=trust)

        return await asyncio.to_thread(find)

    async def _obtain_staged(self, entry: BlobEntry) -> None:
        blob = self._staging.partial_blob_path(entry.digest)
        slot = entry.wish.slot
        # Outputs that shared it when it was fetched may be finished by now: it goes on where it lies.
        if slot is not None and (self._planned[entry.digest] > 1 or await asyncio.to_thread(blob.exists)):
            slot = None
        path, offset = (blob, 0) if slot is None else (slot.path, slot.offset)
        open_journal = partial(
            Journal.open,
            blob,
            size_bytes=entry.size_bytes,
            identity=f"{entry.digest} {path.name} {offset}",
            data=path,
            data_offset=offset,
        )
        opened: list[Journal] = []
        try:
            await in_thread(None, lambda: opened.append(open_journal()))
            journal = opened[0]
            place = Place(path=path, offset=offset, log=journal, landed=journal.ranges)
            ticket = await self._start(entry, place, known_tar_size=None)
            try:
                tar_size = await self._process(entry, ticket)
            except IntegrityError:
                await _release(entry)
                await in_thread(None, journal.reset)
                raise
        finally:
            await _release(entry)
            for one in opened:  # also where waiting for it was cancelled
                await in_thread(None, one.close)
        self._deliver(entry, Extent(path=path, offset=offset, size_bytes=entry.size_bytes), tar_size)

    async def _start(self, entry: BlobEntry, place: Place, *, known_tar_size: int | None) -> BlobTicket:
        """Begin to fetch what is missing, and announce the inflated size as soon as it can be told."""
        wish = entry.wish
        have_bytes = sum(end - start for start, end in place.landed)
        if self._settings.is_offline and have_bytes < entry.size_bytes:
            raise NotFoundError(
                f"blob {entry.digest} is not in the cache {self._settings.cache_dir};"
                " pull once without --offline"
            )
        if entry.ticket is None:
            entry.fetched_bytes = entry.size_bytes - have_bytes
            self._progress.add_blob(digest=entry.digest, size_bytes=entry.size_bytes, have_bytes=have_bytes)
        elif have_bytes < entry.size_bytes:
            entry.fetched_bytes = entry.size_bytes
            self._progress.fetched(digest=entry.digest, delta_bytes=-entry.size_bytes)
        job = BlobJob(
            digest=entry.digest,
            size_bytes=entry.size_bytes,
            media_type=wish.descriptor.media_type,
            source=self._resolver.sources.source(wish.registry, wish.repository, wish.descriptor),
            diff_id=wish.diff_id,
            wants_tar_size=wish.form is Form.TAR,
            known_tar_size_bytes=known_tar_size,
        )
        ticket = entry.ticket = self._engine.start(job, place)
        if wish.form is Form.TAR:
            entry.announce(await ticket.guess_tar_size())
        return ticket

    async def _slots_are_known(self, entry: BlobEntry, ticket: BlobTicket) -> bool:
        """Wait until every user has said where to unpack to (True), or all bytes have landed (False)."""
        return await first_of(_sinks(entry), ticket.fetched()) == 0

    async def _process(self, entry: BlobEntry, ticket: BlobTicket) -> int:
        """Verify what has to be verified and unpack for whoever wants that now; returns the tar's size."""
        sinks = await _sinks(entry)
        entry.served = list(entry.waiting)
        if not entry.users:
            raise NotFoundError(f"blob {entry.digest} is no longer wanted")
        trust = ticket.place.trust
        wants_diff_id = (
            self._settings.verify is Verify.FULL and entry.wish.diff_id is not None and trust < Trust.FULL
        )
        inflates = bool(sinks) or wants_diff_id
        tar_size = 0
        if inflates or trust < Trust.STORED:
            tar_size = await ticket.process(sinks, inflates=inflates)
        self._progress.blob_done(digest=entry.digest)
        return tar_size

    async def _provide_again(self, entry: BlobEntry, provided: Provided) -> None:
        """Users that came after the blob was done: unpack for them from what lies here, verified."""
        place = Place(
            path=provided.stored.path,
            offset=provided.stored.offset,
            landed=((0, entry.size_bytes),),
            trust=Trust.FULL,
        )
        ticket = await self._start(entry, place, known_tar_size=provided.tar_size_bytes or None)
        tar_size = await self._process(entry, ticket)
        self._deliver(entry, provided.stored, tar_size or provided.tar_size_bytes)

    @staticmethod
    def _deliver(entry: BlobEntry, stored: Extent, tar_size: int) -> None:
        """Tell those for whom the blob was processed; who came meanwhile is served next."""
        entry.provided = Provided(stored=stored, tar_size_bytes=tar_size)
        for use in entry.served:
            entry.waiting.remove(use)
            if not use.result.done():
                use.result.set_result(entry.provided)
        entry.served = []

    @staticmethod
    def _facts(entry: BlobEntry, tar_size: int) -> BlobFacts:
        return BlobFacts(
            media_type=entry.wish.descriptor.media_type,
            diff_id=entry.wish.diff_id if tar_size else None,
            tar_size_bytes=tar_size or None,
        )


async def _sinks(entry: BlobEntry) -> list[Sink]:
    """The sinks of all who wait, also of those who join meanwhile; without those who gave up."""
    sinks = []
    position = 0
    while position < len(entry.waiting):
        sink = await asyncio.shield(entry.waiting[position].sink)
        if sink is not None:
            sinks.append(sink)
        position += 1
    return sinks


async def _release(entry: BlobEntry) -> None:
    """Nothing is written to the blob's place, or its journal, from here on."""
    if entry.ticket is not None:
        await entry.ticket.release()


def _remove(path: Path) -> None:
    """A staged blob and its journal."""
    for one in (path, journal_path(path)):
        one.unlink(missing_ok=True)
