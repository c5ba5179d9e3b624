"""The two HTTP sessions: one for registries, one for storage hosts that never carries their credentials."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import getproxies_environment

import aiohttp
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

from .. import __version__
from ..auth.bearer import HttpAnswer
from ..errors import UsageError
from ..settings import MIB, ConnectionSettings, TransferSettings
from .faults import translated

USER_AGENT = f"ecr-async-pull/{__version__}"
_SMALL_ANSWER_CAP_BYTES = MIB


class _ProxiedRequest(aiohttp.ClientRequest):
    """Takes HTTPS_PROXY and NO_PROXY from the environment, but never a login from ~/.netrc.

    aiohttp's `trust_env` can't be had without the netrc, which would put an Authorization of its own on
    requests to storage hosts (S3 refuses those) and costs two thread hops a request.
    """

    def update_proxy(
        self, proxy: URL | None, proxy_auth: aiohttp.BasicAuth | None, proxy_headers: Any
    ) -> None:
        if proxy is None:
            try:
                proxy, proxy_auth = get_env_proxy_for_url(self.url)
            except LookupError:
                proxy = None
        super().update_proxy(proxy, proxy_auth, proxy_headers)


class HttpSessions:
    """`registry` and `storage`, open between `__aenter__` and `__aexit__`.

    Neither follows redirects by itself (pass `allow_redirects=False`), decodes bodies, keeps cookies or
    has a total timeout; connecting and each wait for bytes are bounded. The number of connections isn't:
    whoever makes the requests bounds them. `read_buffer_bytes` is how much of one body aiohttp may hold
    before it pauses.
    """

    registry: aiohttp.ClientSession
    storage: aiohttp.ClientSession

    def __init__(
        self,
        connection: ConnectionSettings,
        transfer: TransferSettings,
        *,
        read_buffer_bytes: int = MIB,
    ) -> None:
        self._connection = connection
        self._read_buffer_bytes = read_buffer_bytes
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=transfer.connect_timeout_s, sock_read=transfer.idle_timeout_s
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises `UsageError` for a CA file that can't be used."""
        context: ssl.SSLContext | bool = True
        if self._connection.ca_file is not None:
            context = await asyncio.to_thread(load_ca_file, self._connection.ca_file)
        async with AsyncExitStack() as stack:
            self.registry = await stack.enter_async_context(self._session(context))
            self.storage = await stack.enter_async_context(self._session(context))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        await asyncio.sleep(0)  # aborted TLS connections close their sockets in the loop's next round

    def _session(self, context: ssl.SSLContext | bool) -> aiohttp.ClientSession:
        """`context` True is aiohttp's own, which has the system's CA bundle loaded already."""
        uses_proxies = self._connection.trusts_env_proxies and bool(getproxies_environment())
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context,
                limit=0,
                limit_per_host=0,
                resolver=aiohttp.ThreadedResolver(),
                ttl_dns_cache=300,
                keepalive_timeout=30,
            ),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            requote_redirect_url=False,
            timeout=self._timeout,
            read_bufsize=self._read_buffer_bytes,
            request_class=_ProxiedRequest if uses_proxies else aiohttp.ClientRequest,
        )

    async def fetch_small(
        self, url: str, *, authorization: str | None, form: Mapping[str, str] | None
    ) -> HttpAnswer:
        """One small request on the registry session (`auth.bearer.Fetch`). Raises `RegistryError`."""
        headers = {} if authorization is None else {"Authorization": authorization}
        target = URL(url)
        with translated(target.host or "", port=target.port):
            async with self.registry.request(
                "GET" if form is None else "POST", target, data=form, headers=headers, allow_redirects=False
            ) as response:
                return HttpAnswer(
                    status=response.status, body=await read_capped(response, _SMALL_ANSWER_CAP_BYTES)
                )


async def read_capped(response: aiohttp.ClientResponse, cap_bytes: int) -> bytes:
    """The body, or its first `cap_bytes` + 1 bytes: longer than the cap is too long."""
    parts: list[bytes] = []
    left = cap_bytes + 1
    while left > 0 and (part := await response.content.read(min(left, 64 * 1024))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def load_ca_file(path: Path) -> ssl.SSLContext:
    """A client context that trusts this PEM bundle and nothing else. Blocks. Raises `UsageError`."""
    advice = "correct AWS_CA_BUNDLE or SSL_CERT_FILE"
    try:
        context = ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise UsageError(f"the CA bundle {path} holds no usable PEM certificates; {advice}") from error
    except OSError as error:
        raise UsageError(f"can't read the CA bundle {path}: {error.strerror or error}; {advice}") from error
    if not context.cert_store_stats()["x509_ca"] and not context.cert_store_stats()["x509"]:
        raise UsageError(f"the CA bundle {path} holds no certificates; {advice}")
    context.set_alpn_protocols(("http/1.1",))
    return context
