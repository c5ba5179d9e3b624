"""A server on loopback that answers as it is told: for the odd answers that real registries give."""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import trustme
from aiohttp import web

from ecr_async_pull.auth.credentials import Credentials
from ecr_async_pull.registry.client import RegistryClient
from ecr_async_pull.registry.http import HttpSessions
from ecr_async_pull.settings import ConnectionSettings, TransferSettings


@dataclass(frozen=True, kw_only=True)
class Say:
    """One answer. `cut`: close the connection instead of (None), or after so many bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None
    cut_after_bytes: int | None = None


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class RegistryStub:
    """`say` queues answers for a path; the last one is given again and again. Nothing queued is a 404."""

    def __init__(self, *, ca: trustme.CA | None = None) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Say]] = defaultdict(list)
        self._ca = ca
        self.port = 0

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        context = None
        if self._ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._ca.issue_cert("localhost").configure_cert(context)
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def origin(self) -> str:
        return f"{'http' if self._ca is None else 'https'}://{self.host}"

    def say(self, method: str, path: str, *answers: Say) -> None:
        self._answers[method, path].extend(answers)

    def asked_for(self, path: str) -> list[Asked]:
        return [request for request in self.asked if request.path.partition("?")[0] == path]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(
            Asked(request.method, request.raw_path, dict(request.headers), await request.read())
        )
        queue = self._answers.get((request.method, request.path), [])
        if not queue:
            return web.Response(status=404, text="404 page not found")
        say = queue.pop(0) if len(queue) > 1 else queue[0]
        headers = dict(say.headers)
        if say.content_type is not None:
            headers["Content-Type"] = say.content_type
        if say.cut_after_bytes is None:
            return web.Response(status=say.status, body=say.body, headers=headers)
        response = web.StreamResponse(status=say.status, headers=headers)
        response.content_length = len(say.body)
        if say.cut_after_bytes > 0:
            await response.prepare(request)
            await response.write(say.body[: say.cut_after_bytes])
        assert request.transport is not None
        request.transport.close()
        return response


@asynccontextmanager
async def client_of(
    registry: str,
    *,
    plain_http: bool = True,
    attempts: int = 3,
    ca_file: Path | None = None,
    docker_config: Path | None = None,
    token_cache_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
    idle_timeout_s: float = 10.0,
) -> AsyncIterator[RegistryClient]:
    """A client as the orchestrator makes it, with everything that it borrows."""
    connection = ConnectionSettings(
        ca_file=ca_file, plain_http=plain_http, docker_config=docker_config, token_cache_dir=token_cache_dir
    )
    transfer = TransferSettings(connect_timeout_s=5.0, idle_timeout_s=idle_timeout_s)
    async with HttpSessions(connection, transfer) as sessions:
        credentials = Credentials(connection, environment=environment or {}, fetch=sessions.fetch_small)
        yield RegistryClient(
            registry, sessions=sessions, credentials=credentials, plain_http=plain_http, attempts=attempts
        )
