"""A local ECR: token API, registry, "S3" and a proxy for their true names, over TLS, on loopback.

async with StandIn() as standin: ...          # in this loop
with StandIn.threaded() as standin: ...       # in a thread of its own, for tests that run the command line
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import ssl
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
from aiohttp import web

from . import faults
from .access_log import AccessLog, Request, Server, parse_range
from .delivery import Answer, send
from .faults import Faults
from .images import BuiltImage
from .proxy import ConnectProxy
from .registry import Authentication, Registry, region_of
from .storage import Storage
from .tokens import Tokens
from .zoo import FOREIGN_HOST

ACCOUNT = "123456789012"
ACCESS_KEY = "AKIASTANDINEXAMPLE00"
SECRET_KEY = "standin/secret/key/that/nobody/checks000"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1")
_STOP_PATIENCE_S = 0.1
_REGISTRY_NAME = re.compile(
    r"[^.]+\.dkr[.-]ecr(-fips)?\.[^.]+\.(amazonaws\.com|on\.aws)|(api\.ecr|ecr|ecr-fips)\.[^.]+\.(amazonaws\.com|api\.aws)"
)
_STORAGE_NAME = re.compile(rf".+\.s3\.[^.]+\.amazonaws\.com|{re.escape(FOREIGN_HOST)}")


class StandIn:
    """Everything is served while the context is open.

    `link_life_s`, `token_life_s`: how long presigned links and tokens are good. `faults`: what goes wrong.
    `log`: what was asked and sent; `requests` is its list.
    """

    def __init__(
        self,
        *,
        authentication: Authentication = "ecr",
        link_life_s: int = 3600,
        token_life_s: float = 12 * 3600,
        regions: tuple[str, ...] = REGIONS,
    ) -> None:
        self.faults = Faults()
        self.log = AccessLog()
        self.storage = Storage(account=ACCOUNT, link_life_s=link_life_s)
        self.tokens = Tokens(account=ACCOUNT, access_key=ACCESS_KEY, token_life_s=token_life_s)
        self.registry = Registry(
            account=ACCOUNT,
            authentication=authentication,
            tokens=self.tokens,
            storage=self.storage,
            storage_host_for=self._storage_host_for,
        )
        self._regions = regions
        self._ports: dict[str, int] = {}
        self._connections: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._connection_numbers = itertools.count(1)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standin-")))
            tls = self._certify()
            registry = await stack.enter_async_context(self._serving("registry", tls))
            storage = await stack.enter_async_context(self._serving("storage", tls))

            def route(host: str, port: int) -> web.Server | None:
                if _STORAGE_NAME.fullmatch(host) or port == self._ports["storage"]:
                    return storage
                known = _REGISTRY_NAME.fullmatch(host) or port == self._ports["registry"]
                return registry if known or host == "public.ecr.aws" else None

            self.proxy = ConnectProxy(socket.create_server(("127.0.0.1", 0)), route, tls)
            task = asyncio.create_task(self.proxy.serve())
            stack.push_async_callback(_end, task)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @classmethod
    @contextlib.contextmanager
    def threaded(cls, **options: Any) -> Iterator[Self]:
        """The same in a thread with a loop of its own; `add`, `faults` and `log` may be used from outside."""
        standin = cls(**options)
        started, failure = threading.Event(), list[BaseException]()
        stop: list[Any] = []

        async def serve() -> None:
            async with standin:
                ended = asyncio.Event()
                stop.append(partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set))
                started.set()
                await ended.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except BaseException as error:  # handed to the thread that waits
                failure.append(error)
                started.set()

        thread = threading.Thread(target=run, name="standin", daemon=True)
        thread.start()
        started.wait()
        try:
            if failure:
                raise failure[0]
            yield standin
        finally:
            for each in stop:
                each()
            thread.join()
        if failure:
            raise failure[0]

    @property
    def requests(self) -> list[Request]:
        return self.log.requests

    @property
    def registry_host(self) -> str:
        """For direct use, as a registry that isn't ECR: `localhost:<port>`, Basic `AWS:<token>`."""
        return f"localhost:{self._ports['registry']}"

    @property
    def storage_host(self) -> str:
        return f"localhost:{self._ports['storage']}"

    @property
    def ecr_host(self) -> str:
        """The name under which the proxy serves the registry, in the first region."""
        return f"{ACCOUNT}.dkr.ecr.{self._regions[0]}.amazonaws.com"

    @property
    def token_endpoint(self) -> str:
        return f"https://{self.registry_host}"

    @property
    def proxy_url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    def add(self, repository: str, tag: str | None, image: BuiltImage) -> str:
        """Serve `image`, and whatever it refers to; returns the manifest's digest."""
        return self.registry.add(repository, tag, image)

    def environment(self) -> dict[str, str]:
        """What a child process needs, beside PATH, to take the stand-in for AWS."""
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CA_BUNDLE": str(self.ca_file),
            "AWS_EC2_METADATA_DISABLED": "true",
            "HTTPS_PROXY": self.proxy_url,
            "NO_PROXY": "localhost,127.0.0.1",
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_STATE_HOME": str(home / ".local" / "state"),
            "DOCKER_CONFIG": str(home / ".docker"),
        }

    def _storage_host_for(self, registry_host: str) -> str:
        region = region_of(registry_host)
        if region is None:
            return self.storage_host
        return f"prod-{region}-starport-layer-bucket.s3.{region}.amazonaws.com"

    def _certify(self) -> ssl.SSLContext:
        names = ["localhost", "127.0.0.1", "public.ecr.aws", FOREIGN_HOST]
        for region in self._regions:
            names += [f"*.dkr.ecr.{region}.amazonaws.com", f"*.dkr.ecr-fips.{region}.amazonaws.com"]
            names += [
                f"*.dkr-ecr.{region}.on.aws",
                f"*.ecr.{region}.amazonaws.com",
                f"*.s3.{region}.amazonaws.com",
            ]
            names += [f"ecr-fips.{region}.amazonaws.com", f"ecr.{region}.api.aws"]
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*names).configure_cert(tls)
        return tls

    @contextlib.asynccontextmanager
    async def _serving(self, name: str, tls: ssl.SSLContext) -> AsyncIterator[web.Server]:
        server = web.Server(partial(self._handle, name), handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_STOP_PATIENCE_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            self._ports[name] = runner.addresses[0][1]
            yield server
        finally:
            for connection in server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    async def _handle(self, name: str, request: web.BaseRequest) -> web.StreamResponse:
        raw_path = request.raw_path
        path = raw_path.partition("?")[0]
        server: Server = "storage" if name == "storage" else "registry"
        if server == "registry" and path == "/" and request.method == "POST":
            server = "token"
        entry = Request(
            server=server,
            method=request.method,
            host=request.headers.get("Host", ""),
            path=path,
            range=parse_range(request.headers.get("Range")),
            has_authorization="Authorization" in request.headers,
            connection=self._connections.setdefault(request.transport, next(self._connection_numbers)),
            headers={key.lower(): value for key, value in request.headers.items()},
        )
        entry.digest = self.storage.digest_of(path) if server == "storage" else self.registry.digest_of(path)
        self.log.open(entry)
        try:
            actions = self.faults.actions_for(entry)
            entry.faults = tuple(type(action).__name__ for action in actions)
            delay_s = sum(action.seconds for action in actions if isinstance(action, faults.Delay))
            if delay_s:
                await asyncio.sleep(delay_s)
            return await send(request, self._answer(entry, raw_path, actions), actions, entry)
        finally:
            self.log.close(entry)

    def _answer(self, entry: Request, raw_path: str, actions: list[faults.Action]) -> Answer:
        for action in actions:
            if isinstance(action, faults.Redirect):
                return Answer(status=307, headers={"Location": f"https://{action.host}{raw_path}"})
        match entry.server:
            case "token":
                return self.tokens.answer(entry, actions)
            case "registry":
                return self.registry.answer(entry, actions)
            case "storage":
                return self.storage.answer(entry, raw_path, actions)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
