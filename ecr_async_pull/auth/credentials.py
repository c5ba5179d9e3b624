"""The one door to who we are: which Authorization header a request to a registry carries."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from ..settings import ConnectionSettings
from .bearer import Fetch, fetch_token
from .challenge import Challenge
from .docker_config import DockerConfig
from .ecr_host import EcrRegistry, parse_ecr_host
from .token_cache import CachedToken, TokenCache, identity_key, use_until

_log = logging.getLogger(__name__)

_Key = tuple[str, str]


class Credentials:
    """Header values for registry hosts, kept in memory for the life of the process.

    ECR hosts get their token at once, one call a region; others are asked anonymously until they
    challenge us, then with the docker login for that host, if there is one. Values are never logged.
    `environment` tells principals apart in the token cache and names the profile in advice; the AWS
    libraries read the process's own. `fetch` is how a Bearer realm is asked.
    """

    def __init__(
        self,
        connection: ConnectionSettings,
        *,
        environment: Mapping[str, str],
        fetch: Fetch,
        connect_timeout_s: float = 15.0,
        read_timeout_s: float = 30.0,
    ) -> None:
        self._connection = connection
        self._environment = environment
        self._fetch = fetch
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._docker_config = DockerConfig(connection.docker_config)
        self._token_cache = TokenCache(connection.token_cache_dir)
        self._headers: dict[_Key, str | None] = {}
        self._expiries: dict[_Key, float] = {}
        self._challenges: dict[_Key, Challenge] = {}
        self._locks: dict[_Key, asyncio.Lock] = {}

    async def authorization(self, registry: str, scope: str) -> str | None:
        """The header value to begin with, None for an anonymous request. Raises `AuthError`.

        `registry` is host[:port]; `scope` as in token authentication, `repository:<name>:pull`.
        """
        ecr = parse_ecr_host(registry)
        key = self._key(registry, scope, ecr)
        if ecr is None or ecr.is_public:
            return self._headers.get(key, self._headers.get((registry, "")))
        async with self._lock(key):
            known = self._headers.get(key)
            if known is not None and time.time() < self._expiries[key]:
                return known
            return await self._ecr_header(key, ecr, refused=None)

    async def renew(
        self, registry: str, scope: str, *, refused: str | None, challenge: Challenge | None
    ) -> str | None:
        """Another header value in place of the `refused` one; None if there is no other to be had.

        Requests that were refused with the same value share one renewal. Raises `AuthError`.
        """
        ecr = parse_ecr_host(registry)
        key = self._key(registry, scope, ecr)
        async with self._lock(key):
            known = self._headers.get(key, self._headers.get((registry, "")))
            if known is not None and known != refused:
                return known
            self._headers.pop(key, None)
            if ecr is not None and not ecr.is_public:
                return await self._ecr_header(key, ecr, refused=refused)
            return await self._challenged_header(registry, scope, challenge=challenge, refused=refused)

    async def _challenged_header(
        self, registry: str, scope: str, *, challenge: Challenge | None, refused: str | None
    ) -> str | None:
        # ECR Public refuses an expired token without a new challenge.
        challenge = challenge or self._challenges.get((registry, scope))
        if challenge is None:
            return None
        self._challenges[registry, scope] = challenge
        login = await self._docker_config.login(registry)
        if challenge.scheme == "basic":
            if login is None or login.basic == refused:
                return None
            self._headers[registry, ""] = login.basic
            return login.basic
        ecr = parse_ecr_host(registry)
        header = await fetch_token(
            challenge,
            registry=registry,
            scope=scope,
            login=login,
            fetch=self._fetch,
            plain_http=self._connection.plain_http,
            may_be_anonymous=ecr is not None,
        )
        self._headers[registry, scope] = header
        return header

    async def _ecr_header(self, key: _Key, ecr: EcrRegistry, *, refused: str | None) -> str:
        variant = f"{'fips' if ecr.is_fips else ''} {'dualstack' if ecr.is_dualstack else ''}"
        cache_key, kept = await asyncio.to_thread(self._load, ecr.region, variant, refused)
        if kept is None:
            kept = await self._ask_ecr(ecr)
            await asyncio.to_thread(self._token_cache.store, cache_key, kept)
        self._headers[key] = kept.authorization
        self._expiries[key] = kept.use_until_s
        return kept.authorization

    def _load(self, region: str, variant: str, refused: str | None) -> tuple[str, CachedToken | None]:
        """Blocks. A refused token is forgotten on the way; one that another process renewed is taken."""
        cache_key = identity_key(region=region, variant=variant, environment=self._environment)
        kept = self._token_cache.load(cache_key)
        if kept is not None and kept.authorization == refused:
            self._token_cache.forget(cache_key, refused=refused)
            kept = None
        return cache_key, kept

    async def _ask_ecr(self, ecr: EcrRegistry) -> CachedToken:
        from .ecr import request_token

        _log.debug("asking ECR in %s for a token", ecr.region)
        token = await request_token(
            ecr,
            ca_file=self._ca_file,
            environment=self._environment,
            connect_timeout_s=self._connect_timeout_s,
            read_timeout_s=self._read_timeout_s,
        )
        now_s = time.time()
        return CachedToken(
            authorization=token.authorization, use_until_s=use_until(token.expires_at_s, now_s=now_s)
        )

    @property
    def _ca_file(self) -> Path | None:
        return self._connection.ca_file

    @staticmethod
    def _key(registry: str, scope: str, ecr: EcrRegistry | None) -> _Key:
        """One token opens all of a region's registries; other hosts have one a scope."""
        if ecr is None or ecr.is_public:
            return registry, scope
        return f"ecr:{ecr.is_fips}:{ecr.is_dualstack}", ecr.region

    def _lock(self, key: _Key) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())
