"""What references name right now, for as little as a request without a body."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from ..digest import Digest
from ..errors import PullError
from ..settings import PullSettings
from .request import ImageRequest
from .resolution import Resolver, open_resolver


async def current_digests(
    requests: Sequence[ImageRequest], settings: PullSettings, environment: Mapping[str, str]
) -> tuple[Digest | PullError, ...]:
    """The digest of each request's manifest or index; of the platform's manifest where one is asked for.

    One request's failure stands in its place.
    """

    async def look_up(request: ImageRequest, resolver: Resolver) -> Digest | PullError:
        try:
            return await _digest(request, resolver)
        except PullError as error:
            return error

    async with open_resolver(settings, environment, None) as resolver, asyncio.TaskGroup() as group:
        tasks = [group.create_task(look_up(request, resolver)) for request in requests]
    return tuple(task.result() for task in tasks)


async def _digest(request: ImageRequest, resolver: Resolver) -> Digest:
    if request.platform is not None:
        return (await resolver.resolve(request)).image.manifest.digest
    reference = request.reference
    named = str(reference.digest or reference.tag)
    client = resolver.client(reference.registry)
    digest = await client.head_digest(reference.repository, named)
    if digest is None:
        digest = (await client.fetch_document(reference.repository, named)).digest
    return digest
