"""Logins from docker's config.json: `auths`, `credHelpers` and `credsStore`."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiofiles
import msgspec

from ..errors import AuthError

_log = logging.getLogger(__name__)

_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_TIMEOUT_S = 30.0
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER = "<token>"  # noqa: S105 - the credential helpers' word for "the secret is an identity token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user and password, or an `identity_token` (OAuth 2 refresh token) in their place."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class _WireAuth(msgspec.Struct, frozen=True):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identity_token: str | None = msgspec.field(name="identitytoken", default=None)


class _WireConfig(msgspec.Struct, frozen=True):
    auths: dict[str, _WireAuth] | None = None
    helpers: dict[str, str] | None = msgspec.field(name="credHelpers", default=None)
    store: str | None = msgspec.field(name="credsStore", default=None)


class _WireHelperAnswer(msgspec.Struct, frozen=True):
    username: str = msgspec.field(name="Username", default="")
    secret: str = msgspec.field(name="Secret", default="")


class DockerConfig:
    """The logins of one config.json, read at the first question; with None there are none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._config: _WireConfig | None = None

    async def login(self, registry: str) -> Login | None:
        """The login for this host[:port]: its helper's, else the default store's, else the file's own.

        Raises `AuthError` for a config file or a helper that can't be used.
        """
        if self._path is None:
            return None
        if self._config is None:
            self._config = await _read(self._path)
        config = self._config
        keys = _keys(registry)
        helper = next((config.helpers[key] for key in keys if key in (config.helpers or {})), None)  # type: ignore[index]
        if helper or config.store:
            login = await _ask_helper(helper or config.store or "", keys[0], is_required=helper is not None)
            if login is not None:
                return login
        by_host = {_host(key): auth for key, auth in (config.auths or {}).items()}
        auth = next((by_host[_host(key)] for key in keys if _host(key) in by_host), None)
        return None if auth is None else _from_wire(auth, registry=registry)


async def _read(path: Path) -> _WireConfig:
    try:
        async with aiofiles.open(path, "rb") as file:
            raw = await file.read()
        return msgspec.json.decode(raw, type=_WireConfig)
    except FileNotFoundError:
        return _WireConfig()
    except OSError as error:
        raise AuthError(f"can't read the docker logins in {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AuthError(f"{path} is no docker config ({error}); correct it or log in again") from error


def _keys(registry: str) -> tuple[str, ...]:
    if registry in _HUB_HOSTS:
        return (_HUB_KEY, *_HUB_HOSTS)
    return (registry,)


def _host(key: str) -> str:
    """The host[:port] of an `auths` key, which may be a URL with a path, as old clients wrote it."""
    return re.sub(r"\Ahttps?://", "", key).split("/", 1)[0]


def _from_wire(auth: _WireAuth, *, registry: str) -> Login | None:
    if auth.identity_token:
        return Login(identity_token=auth.identity_token)
    if auth.auth:
        try:
            username, colon, password = base64.b64decode(auth.auth).decode().rstrip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise AuthError(
                f"the docker login for {registry} can't be read; run: docker login {registry}"
            ) from error
        return Login(username=username, password=password) if colon else None
    if auth.username:
        return Login(username=auth.username, password=auth.password or "")
    return None


async def _ask_helper(helper: str, server: str, *, is_required: bool) -> Login | None:
    """Run `docker-credential-<helper> get`. One named for this host must work; a general store may fail."""
    if not _HELPER_NAME.fullmatch(helper):
        raise AuthError(f"{helper!r} in the docker config is no name of a credential helper; correct it")
    program = f"docker-credential-{helper}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        if is_required:
            raise AuthError(
                f"the docker config asks for {program}, which can't be run; install it"
            ) from error
        _log.debug("%s can't be run", program)
        return None
    try:
        async with asyncio.timeout(_HELPER_TIMEOUT_S):
            output, _ = await process.communicate(server.encode())
    except TimeoutError as error:
        raise AuthError(f"{program} gave no answer within {_HELPER_TIMEOUT_S:.0f} s; log in again") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        if is_required and b"not found" not in output:
            raise AuthError(f"{program} has no login for {server}; run: docker login {server}")
        return None
    try:
        answer = msgspec.json.decode(output, type=_WireHelperAnswer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AuthError(f"{program} gave no readable answer for {server}; log in again") from error
    if answer.username == _TOKEN_USER:
        return Login(identity_token=answer.secret)
    return Login(username=answer.username, password=answer.secret) if answer.secret else None
