"""From resolved images to outputs: room, staging, blobs, and one task an output."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from ..digest import Digest
from ..errors import AuthError, PullError, RegistryError, StorageError
from ..progress.events import Progress
from ..settings import ArchiveFormat, PullSettings
from ..store.cache import BlobCache
from ..store.space import allocated_bytes, check_space
from ..store.staging import Staging, hold_staging, is_staged
from ..transfer.engine import Engine
from ..transfer.offload import in_thread
from .archive_output import ArchivePlan, plan_archive, write_archive
from .blob_pool import BlobPool
from .known_outputs import KnownOutputs
from .oci_output import plan_directory, write_directory
from .request import Outcome, OutputRequest
from .resolution import Resolver
from .under_way import Output, fail_the_others
from .wishes import command_identity, is_cached

_MOST_ACTIVE_BLOBS = 512


class Producer:
    """Writes the outputs of one run."""

    def __init__(self, settings: PullSettings, progress: Progress, known: KnownOutputs) -> None:
        self._settings = settings
        self._progress = progress
        self._known = known

    async def transfer(
        self,
        outputs: Sequence[Output],
        requests: Sequence[OutputRequest],
        resolver: Resolver,
        cache: BlobCache | None,
    ) -> tuple[Path, ...]:
        async with self._stagings(outputs, requests) as stagings:
            is_resumable, is_cancelled = self._settings.keeps_partial, False
            try:
                await self._plan(outputs, stagings)
                await self._produce(outputs, next(iter(stagings.values())), resolver, cache)
                is_resumable = self._settings.resumes and any(_is_resumable(one.error) for one in outputs)
            except asyncio.CancelledError:
                is_cancelled = True
                raise
            finally:
                kept = await in_thread(None, partial(_leave, tuple(stagings.values()), cache, is_resumable))
                for path in kept if is_cancelled else ():
                    self._progress.message(f"what was fetched is kept in {path}")
            return kept

    @asynccontextmanager
    async def _stagings(
        self, outputs: Sequence[Output], requests: Sequence[OutputRequest]
    ) -> AsyncIterator[dict[Path, Staging]]:
        """A staging directory beside the outputs, one in each directory that they go to."""
        identity = command_identity(requests, self._settings)
        async with AsyncExitStack() as stack:
            stagings: dict[Path, Staging] = {}
            parents = {output.final.parent for output in outputs}
            for parent in dict.fromkeys(Path(os.path.realpath(one.path)).parent for one in requests):
                # In the order of the command, and where its finished outputs are too: blobs wait there.
                if parent not in parents and not await asyncio.to_thread(is_staged, parent, identity):
                    continue
                stagings[parent] = await stack.enter_async_context(
                    hold_staging(parent, identity, resumes=self._settings.resumes)
                )
            yield stagings

    async def _plan(self, outputs: Sequence[Output], stagings: Mapping[Path, Staging]) -> None:
        """Work out what each output needs, and whether there is room for it."""
        for output in outputs:
            try:
                if self._settings.archive_format is ArchiveFormat.OCI_DIRECTORY:
                    output.plan = await in_thread(
                        None, partial(plan_directory, output.images, output.final, self._settings)
                    )
                else:
                    staging = stagings[output.final.parent]
                    output.plan = plan_archive(output.images, output.final, staging, self._settings)
            except PullError as error:
                output.fail(error)
        try:
            await asyncio.to_thread(check_space, self._needs(outputs, stagings))
        except StorageError as error:
            for output in outputs:
                if output.outcome is None:
                    output.fail(error)

    def _needs(self, outputs: Sequence[Output], stagings: Mapping[Path, Staging]) -> dict[Path, int]:
        """The least that each file system must have room for, in bytes, before a byte has come.

        Inflated sizes aren't known yet: a layer is at least about as large as its blob. An archive's exact
        size is checked as soon as its blobs have told theirs, before anything is unpacked.
        """
        needs: dict[Path, int] = {}
        blobs: dict[Digest, int] = {}
        for output in outputs:
            if output.plan is None or output.outcome is not None:
                continue
            sizes = {wish.descriptor.digest: wish.descriptor.size_bytes for wish in output.plan.wishes}
            blobs |= sizes
            writes_blobs_apart = self._settings.inflates or self._settings.cache_dir is not None
            if writes_blobs_apart and isinstance(output.plan, ArchivePlan):
                parent = output.final.parent
                lacking = sum(sizes.values()) - allocated_bytes(output.plan.partial)
                needs[parent] = needs.get(parent, 0) + max(0, lacking)
        place = self._settings.cache_dir or next(iter(stagings))
        have = 0
        if self._settings.cache_dir is None:
            have = sum(one.kept_bytes(archives=not self._settings.inflates) for one in stagings.values())
        missing = sum(size for digest, size in blobs.items() if not is_cached(digest, self._settings))
        needs[place] = needs.get(place, 0) + max(0, missing - have)
        return needs

    async def _produce(
        self,
        outputs: Sequence[Output],
        staging: Staging,
        resolver: Resolver,
        cache: BlobCache | None,
    ) -> None:
        todo = [output for output in outputs if output.outcome is None]
        async with (
            Engine(
                self._settings.transfer,
                storage_places=resolver.sources.storage_places,
                progress=self._progress,
            ) as engine,
            asyncio.TaskGroup() as group,
        ):
            pool = BlobPool(
                settings=self._settings,
                engine=engine,
                group=group,
                resolver=resolver,
                cache=cache,
                staging=staging,
                progress=self._progress,
            )
            for output in todo:
                assert output.plan is not None
                pool.plan(output.plan.wishes)
            await self._produce_all(todo, pool)

    async def _produce_all(self, outputs: Sequence[Output], pool: BlobPool) -> None:
        """All outputs at once, but for so many blobs that files would run out."""
        active = 0
        settled = asyncio.Event()

        async def produce(output: Output, blobs: int, after: asyncio.Event | None) -> None:
            nonlocal active
            try:
                await self._produce_one(output, pool, after)
                if output.error is not None:
                    if self._settings.is_fail_fast:
                        fail_the_others(outputs)
                    for other in outputs:
                        if other.outcome is not None:
                            for use in other.uses:
                                use.drop()
            finally:
                output.ended.set()
                active -= blobs
                settled.set()

        last: dict[Path, asyncio.Event] = {}
        async with asyncio.TaskGroup() as group:
            for output in outputs:
                assert output.plan is not None
                blobs = len(output.plan.wishes)
                while active and active + blobs > _MOST_ACTIVE_BLOBS:
                    settled.clear()
                    await settled.wait()
                if output.outcome is not None:
                    continue
                active += blobs
                group.create_task(produce(output, blobs, last.get(output.final)))
                last[output.final] = output.ended

    async def _produce_one(self, output: Output, pool: BlobPool, after: asyncio.Event | None) -> None:
        plan = output.plan
        assert plan is not None
        output.began_at = time.monotonic()
        output.uses = [pool.use(wish) for wish in plan.wishes]
        try:
            await self._known.forget(output.final, output.request)
            if isinstance(plan, ArchivePlan):
                await write_archive(plan, output.uses, self._settings)
            else:
                await write_directory(plan, output.uses, self._settings, after=after)
            # With --fail-fast another's failure may have been faster than the end of this one: it is there.
            output.outcome, output.error = Outcome.PULLED, None
            await self._known.remember(output.final, output.request, output.fingerprint)
            await pool.release(wish.descriptor.digest for wish in plan.wishes)
        except PullError as error:
            if output.outcome is None:
                output.fail(error)
        finally:
            for use in output.uses:
                use.drop()


def _leave(stagings: Sequence[Staging], cache: BlobCache | None, is_resumable: bool) -> tuple[Path, ...]:
    """Thread side: remove what no later run can use; returns what stays."""
    kept = []
    for staging in stagings:
        if is_resumable and staging.kept_bytes() > 0:
            kept.append(staging.path)
        else:
            staging.remove()
    if is_resumable and cache is not None and cache.has_partials():
        kept.append(cache.directory)
    return tuple(kept)


def _is_resumable(error: PullError | None) -> bool:
    """Whether the same command may well go on where this failed: on another day, with another login."""
    if isinstance(error, RegistryError):
        no_answer = error.status is None and type(error) is RegistryError
        return error.is_transient or no_answer
    return isinstance(error, AuthError | StorageError)
