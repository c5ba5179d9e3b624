"""Asking one registry host (distribution-spec, "Pull"; ECR's ways in status codes and redirects)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import aiohttp
from yarl import URL

from ..auth.challenge import pick_challenge
from ..auth.credentials import Credentials
from ..auth.ecr_host import parse_ecr_host
from ..digest import Digest, check_bytes
from ..errors import IntegrityError, NotFoundError, PullError, UnsupportedImageError
from ..model.descriptor import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from ..model.manifest import Index, Manifest, parse_document
from ..settings import KIB, MIB
from .faults import is_token_refused, parse_error_body, registry_fault, storage_fault, translated
from .http import HttpSessions, read_capped
from .redirect import REDIRECT_STATUSES, location_url
from .retry import retrying

_log = logging.getLogger(__name__)

DOCUMENT_CAP_BYTES = 8 * MIB
_ERROR_CAP_BYTES = 64 * KIB
_ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
_HUB_HOSTS = ("docker.io", "index.docker.io")
_HUB_API_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A response; `error_body` is the beginning of its body where that had to be read already."""

    response: aiohttp.ClientResponse
    error_body: bytes | None = None

    async def fault(self, *, host: str, what: str) -> PullError:
        body = self.error_body
        if body is None:
            body = await read_capped(self.response, _ERROR_CAP_BYTES)
        return registry_fault(
            self.response.status,
            self.response.headers,
            body,
            host=host,
            what=what,
            is_anonymous="Authorization" not in self.response.request_info.headers,
        )


class RegistryClient:
    """One registry host[:port]; borrows sessions and credentials, owns nothing.

    Documents and small blobs are asked for up to `attempts` times while faults are transient; a blob
    request is a single try. A refused token is renewed once a request. `is_offline`: nothing is asked, every
    call raises `NotFoundError`.
    """

    def __init__(
        self,
        registry: str,
        *,
        sessions: HttpSessions,
        credentials: Credentials,
        plain_http: bool = False,
        attempts: int = 6,
        is_offline: bool = False,
    ) -> None:
        self.registry = registry
        self._is_offline = is_offline
        self._sessions = sessions
        self._credentials = credentials
        self._plain_http = plain_http
        self._attempts = attempts
        ecr = parse_ecr_host(registry)
        self._small_blobs: dict[Digest, bytes] = {}
        self._small_locks: dict[Digest, asyncio.Lock] = {}
        self._is_public_ecr = ecr is not None and ecr.is_public
        host = _HUB_API_HOST if registry in _HUB_HOSTS else registry
        self._base = f"{'http' if plain_http else 'https'}://{host}/v2/"

    async def fetch_document(
        self, repository: str, reference: str, *, expected: Descriptor | None = None
    ) -> Manifest | Index:
        """The manifest or index under a tag or digest, whole.

        By digest (and against `expected`'s size and digest) the bytes are checked; by tag the registry's
        digest header is only compared. Raises `NotFoundError`, `IntegrityError`, `UnsupportedImageError`.
        """
        return await retrying(
            partial(self._fetch_document, repository, reference, expected), attempts=self._attempts
        )

    async def head_digest(self, repository: str, tag: str) -> Digest | None:
        """What the tag names now, by a request without a body; None where the registry doesn't say."""
        return await retrying(partial(self._head_digest, repository, tag), attempts=self._attempts)

    async def fetch_small_blob(self, repository: str, descriptor: Descriptor, *, cap_bytes: int) -> bytes:
        """A blob of at most `cap_bytes`, whole, its size and then its digest checked.

        Fetched once for all who ask, also for those who ask meanwhile: images share configs.
        """
        what = f"{repository}@{descriptor.digest}"
        if descriptor.size_bytes > cap_bytes:
            raise UnsupportedImageError(
                f"{what} is {descriptor.size_bytes} bytes long where at most {cap_bytes} make sense"
            )
        async with self._small_locks.setdefault(descriptor.digest, asyncio.Lock()):
            raw = self._small_blobs.get(descriptor.digest)
            if raw is None:
                fetch = partial(self._fetch_small_blob, repository, descriptor, what)
                raw = await retrying(fetch, attempts=self._attempts)
            check_bytes(raw, digest=descriptor.digest, size_bytes=descriptor.size_bytes, what=what)
            self._small_blobs[descriptor.digest] = raw
        return raw

    @asynccontextmanager
    async def request_blob(
        self, repository: str, digest: Digest, *, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One GET of a blob at the registry: yields the 200 or 206, or the redirect (see `location_url`).

        Redirects are not followed. Raises `TransientError`, `AuthError`, `NotFoundError`, `RegistryError`;
        what fails while the body is read inside the block is raised the same way.
        """
        what = f"blob {digest} of {repository}"
        async with self._open("GET", repository, f"blobs/{digest}", headers=headers, what=what) as answer:
            if answer.response.status not in {200, 206} | REDIRECT_STATUSES:
                raise await answer.fault(host=self.registry, what=what)
            yield answer.response

    async def _fetch_document(
        self, repository: str, reference: str, expected: Descriptor | None
    ) -> Manifest | Index:
        separator = "@" if ":" in reference else ":"
        what = f"{repository}{separator}{reference}"
        headers = {"Accept": _ACCEPT}
        async with self._open(
            "GET", repository, f"manifests/{reference}", headers=headers, what=what
        ) as answer:
            if (response := answer.response).status in REDIRECT_STATUSES:
                raw, served = await self._follow(
                    response, headers=headers, cap_bytes=DOCUMENT_CAP_BYTES, what=what
                )
            elif response.status == 200:
                raw = await read_capped(response, DOCUMENT_CAP_BYTES)
                served = response.headers
            else:
                raise await answer.fault(host=self.registry, what=what)
        if len(raw) > DOCUMENT_CAP_BYTES:
            raise UnsupportedImageError(
                f"the manifest of {what} is longer than {DOCUMENT_CAP_BYTES} bytes; refused"
            )
        wanted = Digest.parse(reference) if ":" in reference else None
        if wanted is not None:
            check_bytes(raw, digest=wanted, size_bytes=None, what=what)
        if expected is not None:
            check_bytes(raw, digest=expected.digest, size_bytes=expected.size_bytes, what=what)
        try:
            document = parse_document(raw, content_type=served.get("Content-Type", ""))
        except UnsupportedImageError as error:
            raise UnsupportedImageError(f"{self.registry}/{what}: {error}") from error
        except IntegrityError as error:
            raise IntegrityError(f"{self.registry}/{what}: {error}") from error
        claimed = served.get("Docker-Content-Digest", str(document.digest))
        if wanted is None and claimed != str(document.digest) and claimed.startswith("sha256:"):
            _log.warning(
                "%s says that %s has digest %s, but its bytes have %s",
                self.registry,
                what,
                claimed,
                document.digest,
            )
        return document

    async def _head_digest(self, repository: str, tag: str) -> Digest | None:
        headers = {"Accept": _ACCEPT}
        what = f"{repository}:{tag}"
        async with self._open("HEAD", repository, f"manifests/{tag}", headers=headers, what=what) as answer:
            if answer.response.status == 200:
                try:
                    return Digest.parse(answer.response.headers.get("Docker-Content-Digest", ""))
                except IntegrityError:
                    return None
        # An answer to HEAD has no body: only a GET says what is wrong.
        return (await self._fetch_document(repository, tag, None)).digest

    async def _fetch_small_blob(self, repository: str, descriptor: Descriptor, what: str) -> bytes:
        async with self.request_blob(repository, descriptor.digest, headers={}) as response:
            if response.status not in REDIRECT_STATUSES:
                return await read_capped(response, descriptor.size_bytes)
            raw, _ = await self._follow(response, headers={}, cap_bytes=descriptor.size_bytes, what=what)
            return raw

    async def _follow(
        self, redirect: aiohttp.ClientResponse, *, headers: Mapping[str, str], cap_bytes: int, what: str
    ) -> tuple[bytes, Mapping[str, str]]:
        """What a redirect leads to, asked for on the session without credentials; one hop, as ECR makes."""
        url = location_url(redirect, plain_http=self._plain_http)
        redirect.release()
        host = url.host or ""
        with translated(host, port=url.port):
            async with self._sessions.storage.get(url, headers=headers, allow_redirects=False) as response:
                if response.status == 200:
                    return await read_capped(response, cap_bytes), response.headers
                body = await read_capped(response, _ERROR_CAP_BYTES)
        raise storage_fault(response.status, response.headers, body, host=host, what=what, is_link_fresh=True)

    @asynccontextmanager
    async def _open(
        self, method: str, repository: str, path: str, *, headers: Mapping[str, str], what: str
    ) -> AsyncIterator[_Answer]:
        """One request with the right Authorization; a second one where the first one's was refused."""
        if self._is_offline:
            raise NotFoundError(f"{what} is not in the cache; pull it once without --offline")
        scope = f"repository:{repository}:pull"
        url = URL(f"{self._base}{repository}/{path}", encoded=True)
        authorization = await self._credentials.authorization(self.registry, scope)
        for can_renew in (True, False):
            sent = dict(headers)
            if authorization is not None:
                sent["Authorization"] = authorization
            with translated(url.host or "", port=url.explicit_port):
                async with self._sessions.registry.request(
                    method, url, headers=sent, allow_redirects=False
                ) as response:
                    renewed = body = None
                    if can_renew and response.status in {400, 401, 403}:
                        body = await read_capped(response, _ERROR_CAP_BYTES)
                        if self._is_login_refused(response.status, body):
                            renewed = await self._renew(response, scope=scope, refused=authorization)
                    if renewed is None:
                        yield _Answer(response=response, error_body=body)
                        return
            authorization = renewed
        raise AssertionError

    def _is_login_refused(self, status: int, body: bytes) -> bool:
        return is_token_refused(status, parse_error_body(body), is_public_ecr=self._is_public_ecr)

    async def _renew(
        self, response: aiohttp.ClientResponse, *, scope: str, refused: str | None
    ) -> str | None:
        _log.debug("%s wants another login (%d)", self.registry, response.status)
        challenge = pick_challenge(response.headers.getall("WWW-Authenticate", []))
        return await self._credentials.renew(self.registry, scope, refused=refused, challenge=challenge)
