"""The composition root: owns every resource of a run and drives it from requests to a report."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..deliver.file import check_target
from ..errors import PullError, StorageError, UsageError
from ..progress.events import NoProgress, Progress
from ..settings import ArchiveFormat, PullPolicy, PullSettings
from ..store.cache import BlobCache
from ..store.space import room_bytes
from ..store.staging import is_staged, remove_finished
from ..transfer.offload import in_thread
from .known_outputs import KnownOutputs
from .request import Outcome, OutputRequest, PullReport
from .resolution import Resolver, open_resolver
from .under_way import Output, fail_the_others
from .wishes import command_identity, fingerprint

if TYPE_CHECKING:
    from .produce import Producer


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
        self._identity = command_identity(requests, self._settings)
        self._parents = {Path(os.path.realpath(one.path)).parent for one in requests}
        outputs = [self._output(request) for request in requests]
        self._check_distinct(outputs)
        if self._settings.is_fail_fast:
            fail_the_others(outputs)
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
                    producer = _load_producer()(self._settings, self._progress, self._known)
                    kept = await producer.transfer(todo, requests, resolver, cache)
            if self._settings.archive_format is ArchiveFormat.OCI_DIRECTORY:
                await self._remember_shared(outputs)
        if all(output.outcome is Outcome.UP_TO_DATE for output in outputs):
            await in_thread(None, self._remove_left)
        return PullReport(results=tuple(output.result() for output in outputs), kept=kept)

    def _output(self, request: OutputRequest) -> Output:
        is_directory = self._settings.archive_format is ArchiveFormat.OCI_DIRECTORY
        if is_directory:
            from .oci_output import check_directory as check
        else:
            check = check_target
        output = Output(request=request, final=request.path.absolute(), began_at=time.monotonic())
        try:
            output.final = check(request.path)
        except StorageError as error:
            output.fail(error)
        return output

    def _remove_left(self) -> None:
        """Thread side: what this command left if it was killed when all was done but the tidying up."""
        for parent in self._parents:
            remove_finished(parent, self._identity)

    def _check_distinct(self, outputs: Sequence[Output]) -> None:
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

    async def _resolve(self, outputs: Sequence[Output], resolver: Resolver) -> None:
        """Ask what every reference names, and find out which outputs are that already."""
        tasks: list[asyncio.Task[None]] = []
        loading: list[asyncio.Task[type[Producer]]] = []

        def will_fetch() -> None:
            if not loading:  # while the registry is thinking
                loading.append(group.create_task(in_thread(None, _load_producer)))

        async def resolve(output: Output) -> None:
            await self._resolve_output(output, resolver, will_fetch)
            if output.error is not None and self._settings.is_fail_fast:
                fail_the_others(outputs)
                for task in tasks:
                    if task is not asyncio.current_task():
                        task.cancel()

        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(resolve(output)) for output in outputs]

    async def _resolve_output(
        self, output: Output, resolver: Resolver, will_fetch: Callable[[], None]
    ) -> None:
        """`will_fetch` is called as soon as it is likely that the output isn't up to date."""
        try:
            room = await self._room_ahead(output)
            if room is not None:
                will_fetch()
            images = []
            for request in output.request.images:
                self._progress.start(label=str(request.reference))
                images.append(await resolver.resolve(request, room_ahead_bytes=room))
            output.images = tuple(images)
            output.fingerprint = fingerprint(images, self._settings)
            if await self._known.is_current(output.final, output.request, output.fingerprint):
                output.outcome = Outcome.UP_TO_DATE
                await self._remember(output)
        except PullError as error:
            output.fail(error)

    async def _room_ahead(self, output: Output) -> int | None:
        """How much may be fetched ahead of need for this output: see `Resolver.resolve`."""
        settings = self._settings
        if await self._known.has_record(output.final, output.request):
            return None
        if settings.cache_dir is not None or settings.transfer.limit_rate_bytes_s is not None:
            return 0
        return await in_thread(None, partial(self._room, output))

    def _room(self, output: Output) -> int:
        """Thread side: the room on the disk; none where some of the blobs may be here already."""
        is_directory = self._settings.archive_format is ArchiveFormat.OCI_DIRECTORY
        if is_directory and output.final.exists():
            return 0
        if any(is_staged(parent, self._identity) for parent in self._parents):
            return 0
        return room_bytes(output.final.parent)

    async def _remember(self, output: Output) -> None:
        await self._known.remember(output.final, output.request, output.fingerprint)

    async def _remember_shared(self, outputs: Sequence[Output]) -> None:
        """Each image that was added to a directory has changed the index of those before it."""
        for output in outputs:
            if output.fingerprint and output.error is None and output.outcome is not None:
                await self._remember(output)


def _load_producer() -> type[Producer]:
    """Heavy, and most pulls in CI find nothing to do."""
    from .produce import Producer

    return Producer
