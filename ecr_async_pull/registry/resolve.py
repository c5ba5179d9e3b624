"""From a reference to a resolved image: documents and configs, no layer bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from ..digest import Digest
from ..errors import PlatformError, UnsupportedImageError
from ..model.descriptor import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES, Descriptor
from ..model.image import PlatformImage, ResolvedImage
from ..model.manifest import Index, Manifest
from ..model.platform import Platform, is_attestation, rank
from ..model.reference import ImageReference
from .client import RegistryClient
from .documents import DocumentStore, ImageReader, LayersKnown

_DEEPEST_NESTING = 4
_MOST_DOCUMENTS = 1000
_REFERENCE_DIGEST = "vnd.docker.reference.digest"

T = TypeVar("T")


async def resolve(
    client: RegistryClient,
    reference: ImageReference,
    *,
    platform: Platform | None = None,
    is_all_platforms: bool = False,
    with_attestations: bool = False,
    names: tuple[str, ...] | None = None,
    documents: DocumentStore | None = None,
    on_layers: LayersKnown | None = None,
) -> ResolvedImage:
    """What `reference` names, for `platform` (None: this machine's architecture under Linux).

    A manifest that is no index's entry is taken whatever its platform, but for one asked for explicitly.
    `names` None stands for the reference's own. What `documents` has isn't asked for again; a tag always is.
    Raises `PlatformError`, `UnsupportedImageError`, `IntegrityError` and what requests raise.
    """
    reader = ImageReader(
        client=client, repository=reference.repository, documents=documents, on_layers=on_layers
    )
    top = await reader.top(reference)
    target = Descriptor(media_type=top.media_type, digest=top.digest, size_bytes=len(top.raw))
    others: tuple[PlatformImage, ...] = ()
    indexes: tuple[Index, ...] = ()
    if isinstance(top, Manifest):
        image = await reader.image(top, what=str(reference))
        if platform is not None and _contradicts(image, platform):
            raise _no_platform(reference, platform, (_platform_text(image),))
    elif is_all_platforms:
        indexes, image, others = await _resolve_all(reader, reference, top, platform)
    else:
        indexes, image = await _resolve_one(reader, reference, top, platform)
        if with_attestations:
            entries = [
                entry
                for entry in indexes[-1].manifests
                if is_attestation(entry)
                and entry.annotations.get(_REFERENCE_DIGEST) == str(image.manifest.digest)
            ]
            others = await _concurrently([_bind(reader.companion, entry) for entry in entries])
    return ResolvedImage(
        reference=reference,
        target=target,
        indexes=indexes,
        image=image,
        others=others,
        names=_default_names(reference) if names is None else names,
        is_all_platforms=is_all_platforms,
    )


def _default_names(reference: ImageReference) -> tuple[str, ...]:
    if reference.tag is not None:
        return (f"{reference.familiar_name}:{reference.tag}",)
    assert reference.digest is not None
    return (f"{reference.familiar_name}:{reference.digest.hex}",)


async def _resolve_one(
    reader: ImageReader, reference: ImageReference, top: Index, platform: Platform | None
) -> tuple[tuple[Index, ...], PlatformImage]:
    """The best entry for the platform, through nested indexes, depth first."""
    wanted = platform or Platform.of_host()
    available: list[str] = []

    async def search(index: Index, path: tuple[Index, ...]) -> tuple[tuple[Index, ...], PlatformImage] | None:
        path = _deepened(path, index, reference)
        entries = [entry for entry in index.manifests if entry.media_type in (*MANIFEST_TYPES, *INDEX_TYPES)]
        for entry in rank(entries, wanted):
            document = await reader.document(entry)
            if isinstance(document, Index):
                found = await search(document, path)
                if found is not None:
                    return found
                continue
            if entry.platform is None and document.config.media_type not in CONFIG_TYPES:
                continue
            image = await reader.image(document, what=f"{reference.name}@{entry.digest}")
            assert image.config is not None
            if entry.platform is not None or _suits(image.config.platform, wanted):
                return path, image
            available.append(str(image.config.platform))
        available.extend(
            str(entry.platform)
            for entry in entries
            if entry.platform is not None and not is_attestation(entry)
        )
        return None

    found = await search(top, ())
    if found is None:
        raise _no_platform(reference, wanted, tuple(dict.fromkeys(available)))
    return found


async def _resolve_all(
    reader: ImageReader, reference: ImageReference, top: Index, platform: Platform | None
) -> tuple[tuple[Index, ...], PlatformImage, tuple[PlatformImage, ...]]:
    """Every entry of every index; `image` is the best one for the platform, or the first one."""
    indexes: dict[Digest, Index] = {}
    entries: dict[Digest, Descriptor] = {}

    async def collect(index: Index, path: tuple[Index, ...]) -> None:
        path = _deepened(path, index, reference)
        indexes.setdefault(index.digest, index)
        for entry in index.manifests:
            if entry.media_type in INDEX_TYPES and entry.digest not in indexes:
                nested = await reader.document(entry)
                if isinstance(nested, Index):
                    await collect(nested, path)
            elif entry.media_type in MANIFEST_TYPES:
                entries.setdefault(entry.digest, entry)
        if len(indexes) + len(entries) > _MOST_DOCUMENTS:
            raise UnsupportedImageError(
                f"{reference} lists more than {_MOST_DOCUMENTS} manifests; name one by digest"
            )

    await collect(top, ())
    everything = await _concurrently([_bind(reader.companion, entry) for entry in entries.values()])
    images = {image.manifest.digest: image for image in everything}
    candidates = [entry for entry in entries.values() if images[entry.digest].config is not None]
    if not candidates:
        raise UnsupportedImageError(
            f"{reference} lists no container image; pull it with the tool that pushed it"
        )
    matching = [
        entry
        for entry in rank(candidates, platform or Platform.of_host())
        if entry.platform is not None or _config_suits(images[entry.digest], platform or Platform.of_host())
    ]
    if platform is not None and not matching:
        raise _no_platform(
            reference, platform, tuple(_platform_text(images[entry.digest]) for entry in candidates)
        )
    best = images[(matching or candidates)[0].digest]
    return tuple(indexes.values()), best, tuple(image for image in everything if image is not best)


def _deepened(path: tuple[Index, ...], index: Index, reference: ImageReference) -> tuple[Index, ...]:
    if len(path) >= _DEEPEST_NESTING or any(index.digest == outer.digest for outer in path):
        raise UnsupportedImageError(
            f"{reference} nests indexes deeper than {_DEEPEST_NESTING}; name an image by digest"
        )
    return (*path, index)


def _suits(actual: Platform, wanted: Platform) -> bool:
    return any(actual.matches(choice) for choice in (wanted, *wanted.fallbacks()))


def _contradicts(image: PlatformImage, wanted: Platform) -> bool:
    """Whether the only image there is says that it is another one; what its config leaves out says nothing.

    Nor do `os.features`, which choose among an index's entries.
    """
    if image.config is None:
        return False
    stated = image.config.platform
    system, machine = stated.os or wanted.os, stated if stated.architecture else wanted
    known = replace(
        stated, os=system, architecture=machine.architecture, variant=machine.variant, os_features=()
    )
    return not _suits(known, wanted)


def _config_suits(image: PlatformImage, wanted: Platform) -> bool:
    return image.config is not None and _suits(image.config.platform, wanted)


def _platform_text(image: PlatformImage) -> str:
    return "unknown" if image.config is None else str(image.config.platform)


def _no_platform(reference: ImageReference, wanted: Platform, available: tuple[str, ...]) -> PlatformError:
    has = (
        f"it has {', '.join(available)}; choose one with --platform"
        if available
        else "it lists no image at all"
    )
    return PlatformError(f"{reference} has no image for {wanted}; {has}", available=available)


def _bind(call: Callable[[Descriptor], Awaitable[T]], entry: Descriptor) -> Callable[[], Awaitable[T]]:
    return lambda: call(entry)


async def _concurrently(calls: Sequence[Callable[[], Awaitable[T]]]) -> tuple[T, ...]:
    """All results in order; the first failure ends the others and is raised by itself."""

    async def run(call: Callable[[], Awaitable[T]]) -> T:
        return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(call)) for call in calls]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return tuple(task.result() for task in tasks)
