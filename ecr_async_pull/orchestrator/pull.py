"""The composition root: owns every resource of a run and drives it from requests to a report."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..deliver.file import check_target
from ..digest import Digest
from ..errors import PullError, StorageError, TransientError, UsageError
from ..model.image import ResolvedImage
from ..progress.events import NoProgress, Progress
from ..settings import ArchiveFormat, PullPolicy, PullSettings
from ..store.cache import BlobCache
from ..store.space import check_space
from ..store.staging import Staging, hold_staging
from ..transfer.engine import Engine
from ..transfer.offload import in_thread
from .archive_output import ArchivePlan, plan_archive, write_archive
from .blob_pool import BlobPool, BlobUse
from .known_outputs import KnownOutputs
from .oci_output import DirectoryPlan, check_directory, plan_directory, write_directory
from .request import ImageFacts, Outcome, OutputRequest, OutputResult, PullReport
from .resolution import Resolver, open_resolver
from .wishes import fingerprint, run_identity

_LOG = logging.getLogger(__name__)
_MOST_ACTIVE_BLOBS = 512


@dataclass(slots=True, kw_only=True)
class _Output:
    """One output on its way."""

    request: OutputRequest
    final: Path
    began_at: float
    images: tuple[ResolvedImage, ...] = ()
    fingerprint: str = ""
    plan: ArchivePlan | DirectoryPlan | None = None
    uses: list[BlobUse] = field(default_factory=list)
    outcome: Outcome | None = None
    error: PullError | None = None

    def fail(self, error: PullError) -> None:
        self.outcome, self.error = Outcome.FAILED, error

    def result(self) -> OutputResult:
        assert self.outcome is not None
        needed = sum(use.wish.descriptor.size_bytes for use in self.uses)
        fetched = sum(use.fetched_bytes for use in self.uses)
        return OutputResult(
            request=self.request,
            outcome=self.outcome,
            fetched_bytes=fetched,
            reused_bytes=max(0, needed - fetched),
            seconds=time.monotonic() - self.began_at,
            images=tuple(map(_facts, self.images)),
            error=self.error,
        )


async def pull(
    outputs: Sequence[OutputRequest],
    settings: PullSettings,
    *,
    environment: Mapping[str, str],
    progress: Progress | None = None,
) -> PullReport:
    """Pull every output; one's failure is in its result and does not stop the others.

    `environment` is what AWS's credential chain and the token cache go by. Raises `UsageError` and
    `StorageError` for what is wrong with the whole run; cancelled, it cleans up and raises.
    """
    run = _Run(settings, environment, progress or NoProgress())
    return await run.run(outputs)


class _Run:
    def __init__(self, settings: PullSettings, environment: Mapping[str, str], progress: Progress) -> None:
        self._settings = settings
        self._environment = environment
        self._progress = progress
        self._known = KnownOutputs(settings)

    async def run(self, requests: Sequence[OutputRequest]) -> PullReport:
        outputs = [self._output(request) for request in requests]
        self._check_distinct(outputs)
        self._fail_fast(outputs)
        if self._settings.policy is PullPolicy.MISSING:
            for output in outputs:
                if output.outcome is None and await self._known.is_as_requested(output.final, output.request):
                    output.outcome = Outcome.UP_TO_DATE
        todo = [output for output in outputs if output.outcome is None]
        kept: tuple[Path, ...] = ()
        if todo:
            async with AsyncExitStack() as stack:
                cache = None
                if self._settings.cache_dir is not None:
                    cache = await stack.enter_async_context(BlobCache(self._settings.cache_dir))
                resolver = await stack.enter_async_context(
                    open_resolver(self._settings, self._environment, cache)
                )
                await self._resolve(todo, resolver)
                todo = [output for output in todo if output.outcome is None]
                if todo:
                    kept = await self._transfer(todo, requests, resolver, cache)
            if self._settings.archive_format is ArchiveFormat.OCI_DIRECTORY:
                await self._remember_shared(outputs)
        return PullReport(results=tuple(output.result() for output in outputs), kept=kept)

    def _output(self, request: OutputRequest) -> _Output:
        is_directory = self._settings.archive_format is ArchiveFormat.OCI_DIRECTORY
        check = check_directory if is_directory else check_target
        output = _Output(request=request, final=request.path.absolute(), began_at=time.monotonic())
        try:
            output.final = check(request.path)
        except StorageError as error:
            output.fail(error)
        return output

    def _check_distinct(self, outputs: Sequence[_Output]) -> None:
        """An OCI directory takes any number of images; everything else one output."""
        if self._settings.archive_format is ArchiveFormat.OCI_DIRECTORY:
            return
        seen: dict[Path, OutputRequest] = {}
        for output in outputs:
            other = seen.setdefault(output.final, output.request)
            if other is not output.request:
                raise UsageError(
                    f"{other.label} and {output.request.label} would both be written to {output.final};"
                    " name different outputs"
                )

    # -- what is there already ------------------------------------------------------------------------

    async def _resolve(self, outputs: Sequence[_Output], resolver: Resolver) -> None:
        """Ask what every reference names, and find out which outputs are that already."""
        tasks: list[asyncio.Task[None]] = []

        async def resolve(output: _Output) -> None:
            await self._resolve_output(output, resolver)
            if output.error is not None and self._settings.is_fail_fast:
                self._fail_fast(outputs)
                for task in tasks:
                    if task is not asyncio.current_task():
                        task.cancel()

        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(resolve(output)) for output in outputs]

    async def _resolve_output(self, output: _Output, resolver: Resolver) -> None:
        try:
            images = []
            for request in output.request.images:
                self._progress.start(label=str(request.reference))
                images.append(await resolver.resolve(request))
            output.images = tuple(images)
            output.fingerprint = fingerprint(images, self._settings)
            if await self._known.is_current(output.final, output.request, output.fingerprint):
                output.outcome = Outcome.UP_TO_DATE
                await self._remember(output)
        except PullError as error:
            output.fail(error)

    async def _remember(self, output: _Output) -> None:
        await self._known.remember(output.final, output.request, output.fingerprint)

    async def _remember_shared(self, outputs: Sequence[_Output]) -> None:
        """Each image that was added to a directory has changed the index of those before it."""
        for output in outputs:
            if output.fingerprint and output.error is None and output.outcome is not None:
                await self._remember(output)

    def _fail_fast(self, outputs: Sequence[_Output]) -> None:
        failed = [output for output in outputs if output.error is not None]
        if not (failed and self._settings.is_fail_fast):
            return
        for output in outputs:
            if output.outcome is None:
                output.fail(UsageError(f"not pulled: {failed[0].request.label} failed (--fail-fast)"))

    # -- what is missing ------------------------------------------------------------------------------

    async def _transfer(
        self,
        outputs: Sequence[_Output],
        requests: Sequence[OutputRequest],
        resolver: Resolver,
        cache: BlobCache | None,
    ) -> tuple[Path, ...]:
        async with self._stagings(outputs, requests) as stagings:
            is_resumable = self._settings.keeps_partial
            try:
                await self._plan(outputs, stagings)
                await self._produce(outputs, next(iter(stagings.values())), resolver, cache)
                is_resumable = self._settings.resumes and any(_is_resumable(one.error) for one in outputs)
            finally:
                kept = await in_thread(None, partial(_leave, tuple(stagings.values()), is_resumable))
            return kept

    @asynccontextmanager
    async def _stagings(
        self, outputs: Sequence[_Output], requests: Sequence[OutputRequest]
    ) -> AsyncIterator[dict[Path, Staging]]:
        """A staging directory beside the outputs, one in each directory that they go to."""
        labels = [str(image.reference) for request in requests for image in request.images]
        identity = run_identity([request.path.absolute() for request in requests], labels, self._settings)
        async with AsyncExitStack() as stack:
            stagings: dict[Path, Staging] = {}
            for parent in dict.fromkeys(output.final.parent for output in outputs):
                stagings[parent] = await stack.enter_async_context(
                    hold_staging(parent, identity, resumes=self._settings.resumes)
                )
            yield stagings

    async def _plan(self, outputs: Sequence[_Output], stagings: Mapping[Path, Staging]) -> None:
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

    def _needs(self, outputs: Sequence[_Output], stagings: Mapping[Path, Staging]) -> dict[Path, int]:
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
            if writes_blobs_apart and self._settings.archive_format is not ArchiveFormat.OCI_DIRECTORY:
                parent = output.final.parent
                needs[parent] = needs.get(parent, 0) + sum(sizes.values())
        place = self._settings.cache_dir or next(iter(stagings.values())).path
        have = 0 if self._settings.cache_dir else sum(one.kept_bytes() for one in stagings.values())
        missing = sum(size for digest, size in blobs.items() if not self._is_cached(digest))
        needs[place] = needs.get(place, 0) + max(0, missing - have)
        return needs

    def _is_cached(self, digest: Digest) -> bool:
        directory = self._settings.cache_dir
        return directory is not None and (directory / "blobs" / digest.algorithm / digest.hex).exists()

    async def _produce(
        self,
        outputs: Sequence[_Output],
        staging: Staging,
        resolver: Resolver,
        cache: BlobCache | None,
    ) -> None:
        todo = [output for output in outputs if output.outcome is None]
        async with (
            Engine(self._settings.transfer, progress=self._progress) as engine,
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

    async def _produce_all(self, outputs: Sequence[_Output], pool: BlobPool) -> None:
        """All outputs at once, but for so many blobs that files would run out."""
        active = 0
        settled = asyncio.Event()

        async def produce(output: _Output, blobs: int) -> None:
            nonlocal active
            try:
                await self._produce_one(output, pool)
                if output.error is not None:
                    self._fail_fast(outputs)
                    for other in outputs:
                        if other.outcome is not None:
                            for use in other.uses:
                                use.drop()
            finally:
                active -= blobs
                settled.set()

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
                group.create_task(produce(output, blobs))

    async def _produce_one(self, output: _Output, pool: BlobPool) -> None:
        plan = output.plan
        assert plan is not None
        output.began_at = time.monotonic()
        output.uses = [pool.use(wish) for wish in plan.wishes]
        try:
            await self._known.forget(output.final, output.request)
            if isinstance(plan, ArchivePlan):
                await write_archive(plan, output.uses, self._settings)
            else:
                await write_directory(plan, output.uses, self._settings)
            # With --fail-fast another's failure may have been faster than the end of this one: it is there.
            output.outcome, output.error = Outcome.PULLED, None
            await self._remember(output)
            await pool.release(wish.descriptor.digest for wish in plan.wishes)
        except PullError as error:
            if output.outcome is None:
                output.fail(error)
        finally:
            for use in output.uses:
                use.drop()


def _leave(stagings: Sequence[Staging], is_resumable: bool) -> tuple[Path, ...]:
    """Thread side: remove what no later run can use; returns what stays."""
    kept = []
    for staging in stagings:
        if is_resumable and staging.kept_bytes() > 0:
            kept.append(staging.path)
        else:
            staging.remove()
    return tuple(kept)


def _is_resumable(error: PullError | None) -> bool:
    """Whether the same command may well go on where this failed."""
    return isinstance(error, TransientError | StorageError)


def _facts(image: ResolvedImage) -> ImageFacts:
    config = image.image.config
    return ImageFacts(
        reference=str(image.reference),
        manifest_digest=str(image.target.digest),
        image_id=str(image.image.manifest.config.digest),
        platform="" if config is None else str(config.platform),
        names=image.names,
    )
