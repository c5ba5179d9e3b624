"""Where one blob's bytes come from: one location request, then ranges from wherever that pointed.

A registry answers a blob request with a redirect to a storage host or with the bytes themselves. The location
is asked for once and used for all ranges; it is asked for again shortly before it expires, and when the
storage host says that it has expired. A few bytes may be on their way before anybody asks for them
(`FetchedAhead`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from yarl import URL

from ..digest import Digest
from ..errors import IntegrityError, NotFoundError, PullError, TransientError
from ..registry.client import RegistryClient
from ..registry.faults import LinkExpired, storage_fault, translated
from ..registry.http import read_capped
from ..registry.redirect import REDIRECT_STATUSES, location_url
from ..settings import KIB

_MOST_REDIRECTS = 5
_ERROR_BODY_BYTES = 64 * KIB
_LIFE_SHARE = 0.9
_FALLBACK_LIFE_S = 600.0


class Content(Protocol):
    """A body as it comes."""

    async def readany(self) -> bytes:
        """What is here, at least a byte; empty at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobBody:
    """An open answer of `host`: bytes from `start` on. `is_whole`: it ignores the range, everything comes."""

    content: Content
    host: str
    start: int
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedAhead:
    """The bytes of one blob from `start` up to `end`, which `task` brings into memory; None if it fails."""

    start: int
    end: int
    task: asyncio.Task[bytes | None]


class Gate(Protocol):
    """Bounds the connections to storage hosts."""

    def __call__(self) -> AbstractAsyncContextManager[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Location:
    url: URL
    good_until: float


class BlobSource:
    """One blob in one repository. `urls`: where a foreign layer's bytes may be had, without credentials.

    `ahead`: what is on its way already, of all blobs of the run; used once.
    """

    def __init__(
        self,
        *,
        client: RegistryClient,
        storage: aiohttp.ClientSession,
        repository: str,
        digest: Digest,
        size_bytes: int,
        urls: tuple[str, ...] = (),
        plain_http: bool = False,
        ahead: MutableMapping[Digest, FetchedAhead],
    ) -> None:
        self._ahead = ahead
        self._client = client
        self._storage = storage
        self._repository = repository
        self._digest = digest
        self._size_bytes = size_bytes
        self._plain_http = plain_http
        self._foreign = [URL(url, encoded=True) for url in urls if url.startswith("https://")]
        self._location: _Location | None = None
        self._is_inline = False
        self._is_link_fresh = False
        self._locating = asyncio.Lock()

    @asynccontextmanager
    async def open(self, start: int, end: int, gate: Gate) -> AsyncIterator[BlobBody]:
        """Open the bytes from `start` up to `end` (exclusive); the caller reads them to the end or leaves.

        Raises `TransientError` for what another try may not meet, otherwise `RegistryError`, `AuthError` or
        `IntegrityError`.
        """
        piece = await self._taken_ahead(start, end)
        if piece is not None:
            yield BlobBody(content=_InMemory(piece), host="memory", start=start, is_whole=False)
            return
        async with AsyncExitStack() as stack:
            response = await self._respond(stack, start, end, gate)
            yield self._checked(response, start, end)

    async def _taken_ahead(self, start: int, end: int) -> bytes | None:
        ahead = self._ahead.get(self._digest)
        if ahead is None or (ahead.start, ahead.end) != (start, end):
            return None
        try:
            await asyncio.wait([ahead.task])
        finally:  # left by whoever found this too slow: the next try makes a request of its own
            self._ahead.pop(self._digest, None)
        return None if ahead.task.cancelled() else ahead.task.result()

    async def read(self, start: int, end: int, gate: Gate) -> bytes:
        """These bytes, which must be few. Raises as `open` does."""
        async with AsyncExitStack() as stack:
            response = await self._respond(stack, start, end, gate)
            host = response.url.host
            if self._checked(response, start, end).is_whole:
                raise TransientError(f"blob {self._digest}: {host} ignores ranges")
            piece = await read_capped(response, end - start)
            if len(piece) != end - start:
                raise TransientError(f"{host} did not send {end - start} bytes, as asked for")
            return piece

    async def locate(self) -> None:
        """Ask where the blob lies, ahead of need; raises as `open` does."""
        async with AsyncExitStack() as stack:
            await self._locate(stack, {"Range": "bytes=0-0"})

    async def _respond(
        self, stack: AsyncExitStack, start: int, end: int, gate: Gate
    ) -> aiohttp.ClientResponse:
        headers = self._range_headers(start, end)
        if self._is_inline:
            await stack.enter_async_context(gate())
            return await stack.enter_async_context(
                self._client.request_blob(self._repository, self._digest, headers=headers)
            )
        inline = await self._locate(stack, headers)
        await stack.enter_async_context(gate())
        if inline is not None:
            return inline
        for url in list(self._foreign):
            try:
                return await stack.enter_async_context(self._get(url, headers))
            except NotFoundError:
                self._foreign.remove(url)
                if not self._foreign:
                    raise TransientError(
                        f"no url of the foreign layer {self._digest} has it; asking the registry"
                    ) from None
        location = self._location
        assert location is not None
        try:
            return await stack.enter_async_context(self._get(location.url, headers))
        except LinkExpired:
            if self._location is location:
                self._location = None
                self._is_link_fresh = True
            raise

    def _range_headers(self, start: int, end: int) -> dict[str, str]:
        if start == 0 and end == self._size_bytes:
            return {}
        return {"Range": f"bytes={start}-{end - 1}"}

    async def _locate(self, stack: AsyncExitStack, headers: dict[str, str]) -> aiohttp.ClientResponse | None:
        """Make sure that the location is known; returns the response where the registry sent bytes itself."""
        if self._foreign or self._is_location_good():
            return None
        async with self._locating:
            if self._is_inline or self._is_location_good():
                return None if not self._is_inline else await self._inline(stack, headers)
            async with AsyncExitStack() as attempt:
                response = await attempt.enter_async_context(
                    self._client.request_blob(self._repository, self._digest, headers=headers)
                )
                if response.status not in REDIRECT_STATUSES:
                    self._is_inline = True
                    stack.push_async_exit(attempt.pop_all())
                    return response
                url = location_url(response, plain_http=self._plain_http)
                self._location = _Location(url=url, good_until=time.monotonic() + _life_s(url))
        return None

    async def _inline(self, stack: AsyncExitStack, headers: dict[str, str]) -> aiohttp.ClientResponse:
        return await stack.enter_async_context(
            self._client.request_blob(self._repository, self._digest, headers=headers)
        )

    def _is_location_good(self) -> bool:
        return self._location is not None and time.monotonic() < self._location.good_until

    @asynccontextmanager
    async def _get(self, url: URL, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        for _ in range(_MOST_REDIRECTS):
            with translated(url.host or "", port=url.port):
                async with self._storage.get(url, headers=headers, allow_redirects=False) as response:
                    if response.status in (200, 206):
                        yield response
                        return
                    if response.status not in REDIRECT_STATUSES:
                        raise await self._fault(response)
                    url = location_url(response, plain_http=self._plain_http)
        raise TransientError(f"blob {self._digest}: {url.host} redirects without end")

    async def _fault(self, response: aiohttp.ClientResponse) -> PullError:
        if response.status == 416:
            return IntegrityError(
                f"blob {self._digest} is shorter at its server than the {self._size_bytes} bytes that the"
                " manifest says; the image has to be pushed again"
            )
        return storage_fault(
            response.status,
            response.headers,
            await read_capped(response, _ERROR_BODY_BYTES),
            host=response.url.host or "",
            what=f"blob {self._digest}",
            is_link_fresh=self._is_link_fresh,
        )

    def _checked(self, response: aiohttp.ClientResponse, start: int, end: int) -> BlobBody:
        if response.status == 206:
            self._check_content_range(response.headers.get("Content-Range", ""), start, end)
            return _body(response, start, is_whole=False)
        length = response.content_length
        if length is not None and length != self._size_bytes:
            raise self._size_error(length)
        return _body(response, 0, is_whole=not (start == 0 and end == self._size_bytes))

    def _check_content_range(self, value: str, start: int, end: int) -> None:
        span, _, total = value.removeprefix("bytes ").partition("/")
        first, _, last = span.partition("-")
        if total.isdecimal() and int(total) != self._size_bytes:
            raise self._size_error(int(total))
        if first != str(start) or not last.isdecimal() or int(last) >= end:
            raise TransientError(
                f"blob {self._digest}: asked for bytes {start}-{end - 1}, the server answered {value[:60]!r}"
            )

    def _size_error(self, actual: int) -> IntegrityError:
        return IntegrityError(
            f"blob {self._digest} has {actual} bytes at its server, but the manifest says {self._size_bytes};"
            " the image has to be pushed again"
        )


class _InMemory:
    """A body that is here."""

    def __init__(self, piece: bytes) -> None:
        self._piece = piece

    async def readany(self) -> bytes:
        piece, self._piece = self._piece, b""
        return piece


def _body(response: aiohttp.ClientResponse, start: int, *, is_whole: bool) -> BlobBody:
    return BlobBody(content=response.content, host=response.url.host or "", start=start, is_whole=is_whole)


def _life_s(url: URL) -> float:
    """How long to trust a link, in seconds from now; presigned links say it (SigV4 query parameters)."""
    expires = url.query.get("X-Amz-Expires", "")
    return int(expires) * _LIFE_SHARE if expires.isdecimal() else _FALLBACK_LIFE_S
