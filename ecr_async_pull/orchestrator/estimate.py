"""What a pull would cost, from manifests alone: no layer byte is asked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from ..digest import Digest
from ..errors import PullError
from ..model.image import ResolvedImage
from ..settings import ArchiveFormat, PullSettings
from ..store.cache import BlobCache
from .known_outputs import KnownOutputs
from .request import ImageRequest, OutputRequest
from .resolution import Resolver, open_resolver
from .wishes import BlobWish, fingerprint, wishes_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEstimate:
    """`size_bytes` as stored. `images`: how many of those asked for have it. `is_here`: in the cache, or in
    the OCI directory to be written. `is_fetched`: this image is the one on whose account it would come.
    """

    digest: Digest
    media_type: str
    size_bytes: int
    images: int
    is_here: bool
    is_fetched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEstimate:
    """One image; each of its distinct layers once. Bytes are of stored layers, without the config."""

    request: ImageRequest
    manifest_digest: str = ""
    platform: str = ""
    layers: tuple[LayerEstimate, ...] = ()
    is_up_to_date: bool = False
    error: PullError | None = None

    @property
    def size_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def shared_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers if layer.images > 1)

    @property
    def here_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers if layer.is_here)

    @property
    def fetch_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers if layer.is_fetched)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """In the order asked for."""

    images: tuple[ImageEstimate, ...]

    @property
    def size_bytes(self) -> int:
        """All images, each by itself."""
        return sum(image.size_bytes for image in self.images)

    @property
    def distinct_bytes(self) -> int:
        """All images, each distinct layer once."""
        return sum(self._distinct().values())

    @property
    def here_bytes(self) -> int:
        here = {layer.digest for image in self.images for layer in image.layers if layer.is_here}
        return sum(size for digest, size in self._distinct().items() if digest in here)

    @property
    def fetch_bytes(self) -> int:
        return sum(image.fetch_bytes for image in self.images)

    @property
    def exit_code(self) -> int:
        """0, or the worst failure's."""
        return max((one.error.exit_code for one in self.images if one.error is not None), default=0)

    def _distinct(self) -> dict[Digest, int]:
        return {layer.digest: layer.size_bytes for image in self.images for layer in image.layers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What became of one request: an image, or why there is none."""

    request: ImageRequest
    image: ResolvedImage | None = None
    error: PullError | None = None


async def resolve_all(
    requests: Sequence[ImageRequest], settings: PullSettings, environment: Mapping[str, str]
) -> tuple[Resolved, ...]:
    """Ask what every reference names, all of them, whatever becomes of the others."""

    async def resolve(request: ImageRequest, resolver: Resolver) -> Resolved:
        try:
            return Resolved(request=request, image=await resolver.resolve(request))
        except PullError as error:
            return Resolved(request=request, error=error)

    async with AsyncExitStack() as stack:
        cache = None
        if settings.cache_dir is not None:
            cache = await stack.enter_async_context(BlobCache(settings.cache_dir))
        resolver = await stack.enter_async_context(open_resolver(settings, environment, cache))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(resolve(request, resolver)) for request in requests]
    return tuple(task.result() for task in tasks)


async def estimate(
    requests: Sequence[ImageRequest],
    settings: PullSettings,
    environment: Mapping[str, str],
    *,
    outputs: Sequence[OutputRequest] = (),
) -> Estimate:
    """What pulling these images would fetch. `outputs`: where they would go; what is there counts as here.

    One image's failure is in its estimate. Raises what is wrong with the whole run.
    """
    resolved = await resolve_all(requests, settings, environment)
    current = await _current(resolved, outputs, settings)
    wishes = [_wishes(one, settings) for one in resolved]
    images = Counter(digest for one in wishes if isinstance(one, tuple) for digest in _digests(one))
    places = _places(outputs, settings)
    here = await asyncio.to_thread(_those_here, wishes, places)
    taken = set(here)
    estimates = []
    for one, wanted in zip(resolved, wishes, strict=True):
        if isinstance(wanted, PullError) or one.image is None:
            error = wanted if isinstance(wanted, PullError) else one.error
            estimates.append(ImageEstimate(request=one.request, error=error))
            continue
        is_current = one.request in current
        layers = []
        for wish in wanted:
            digest = wish.descriptor.digest
            layers.append(
                LayerEstimate(
                    digest=digest,
                    media_type=wish.descriptor.media_type,
                    size_bytes=wish.descriptor.size_bytes,
                    images=images[digest],
                    is_here=digest in here,
                    is_fetched=not is_current and digest not in taken,
                )
            )
            if not is_current:
                taken.add(digest)
        config = one.image.image.config
        estimates.append(
            ImageEstimate(
                request=one.request,
                manifest_digest=str(one.image.target.digest),
                platform="" if config is None else str(config.platform),
                layers=tuple(layers),
                is_up_to_date=is_current,
            )
        )
    return Estimate(images=tuple(estimates))


async def _current(
    resolved: Sequence[Resolved], outputs: Sequence[OutputRequest], settings: PullSettings
) -> set[ImageRequest]:
    """The images whose outputs are up to date."""
    known = KnownOutputs(settings)
    images = {one.request: one.image for one in resolved}
    current: set[ImageRequest] = set()
    for output in outputs:
        wanted = [images[request] for request in output.images]
        found = [image for image in wanted if image is not None]
        final = await asyncio.to_thread(output.path.resolve)
        if len(found) == len(wanted) and await known.is_current(final, output, fingerprint(found, settings)):
            current.update(output.images)
    return current


def _wishes(one: Resolved, settings: PullSettings) -> tuple[BlobWish, ...] | PullError:
    if one.image is None:
        return ()
    try:
        return wishes_of([one.image], settings)
    except PullError as error:
        return error


def _places(outputs: Sequence[OutputRequest], settings: PullSettings) -> list[Path]:
    places = [] if settings.cache_dir is None else [settings.cache_dir]
    if settings.archive_format is ArchiveFormat.OCI_DIRECTORY:
        places += dict.fromkeys(output.path for output in outputs)
    return [place / "blobs" for place in places]


def _those_here(wishes: Iterable[tuple[BlobWish, ...] | PullError], places: Sequence[Path]) -> set[Digest]:
    """The blobs that lie in one of the places with their size. Blocking."""
    sizes = {
        wish.descriptor.digest: wish.descriptor.size_bytes
        for one in wishes
        if isinstance(one, tuple)
        for wish in one
    }
    return {digest for digest, size in sizes.items() if any(_has(place, digest, size) for place in places)}


def _has(place: Path, digest: Digest, size_bytes: int) -> bool:
    try:
        return (place / digest.algorithm / digest.hex).stat().st_size == size_bytes
    except OSError:
        return False


def _digests(wishes: Iterable[BlobWish]) -> set[Digest]:
    return {wish.descriptor.digest for wish in wishes}
