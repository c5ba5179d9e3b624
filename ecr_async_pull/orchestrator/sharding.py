"""Which images of a list are this worker's, found out by every worker alone, from manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import AuthError, PullError, RegistryError, StorageError
from ..model.shard import Shard, ShardItem, assign
from ..settings import PullSettings
from .estimate import Resolved, resolve_all
from .request import ImageRequest
from .wishes import wishes_of


async def select_shard(
    requests: Sequence[ImageRequest],
    shard: Shard,
    settings: PullSettings,
    environment: Mapping[str, str],
) -> tuple[ImageRequest, ...]:
    """The requests of this shard, in their order. Every image is resolved, no layer is fetched.

    All workers have to see the same: an image that isn't there, or can't be pulled, is one worker's to
    report; a fault that another worker may not have met (login, network, disk) is raised.
    """
    resolved = await resolve_all(requests, settings, environment)
    keys = [_key(one.request) for one in resolved]
    items = [_item(key, one, settings) for key, one in zip(keys, resolved, strict=True)]
    own = set(assign(items, shard.count)[shard.index])
    return tuple(request for key, request in zip(keys, requests, strict=True) if key in own)


def _key(request: ImageRequest) -> str:
    return f"{request.reference} {request.platform} {request.names}"


def _item(key: str, one: Resolved, settings: PullSettings) -> ShardItem:
    if one.image is None:
        assert one.error is not None
        if _is_chance(one.error):
            raise one.error
        return ShardItem(key=key, blobs={})
    try:
        wishes = wishes_of([one.image], settings)
    except PullError:
        return ShardItem(key=key, blobs={})
    return ShardItem(key=key, blobs={wish.descriptor.digest: wish.descriptor.size_bytes for wish in wishes})


def _is_chance(error: PullError) -> bool:
    """Whether another worker may well have been luckier."""
    return isinstance(error, AuthError | StorageError) or (
        isinstance(error, RegistryError) and (error.is_transient or type(error) is RegistryError)
    )
