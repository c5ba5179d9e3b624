"""Bearer tokens for registries that challenge us (distribution, "token" and "oauth")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from ..errors import AuthError, TransientError
from .challenge import Challenge
from .docker_config import Login

_CLIENT_ID = "ecr-async-pull"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A small answer, whole."""

    status: int
    body: bytes = field(repr=False)


class Fetch(Protocol):
    """Asks a URL once, with no redirects: GET, or POST where there is a `form`. Raises `RegistryError`."""

    async def __call__(
        self, url: str, *, authorization: str | None, form: Mapping[str, str] | None
    ) -> HttpAnswer: ...


class _WireToken(msgspec.Struct, frozen=True):
    token: str | None = None
    access_token: str | None = None


async def fetch_token(
    challenge: Challenge,
    *,
    registry: str,
    scope: str,
    login: Login | None,
    fetch: Fetch,
    plain_http: bool,
    may_be_anonymous: bool,
) -> str:
    """The header value that answers this challenge. Raises `AuthError`.

    `may_be_anonymous`: where the realm refuses the login, ask again without (a stale docker login must
    not keep anybody from public images).
    """
    realm = challenge.parameters["realm"]
    scheme, host, path, query, _ = urlsplit(realm)
    if scheme not in {"https", "http"} or not host or (scheme == "http" and not plain_http):
        raise AuthError(f"{registry} sends us to a login address that is not https; refused")
    parameters = {"scope": challenge.parameters.get("scope") or scope}
    if service := challenge.parameters.get("service"):
        parameters = {"service": service, **parameters}
    answer = None
    if login is not None and login.identity_token:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": login.identity_token,
            "client_id": _CLIENT_ID,
            **parameters,
        }
        answer = await fetch(realm, authorization=None, form=form)
    else:
        joined = "&".join(part for part in (query, urlencode(parameters, safe=":/,")) if part)
        url = urlunsplit((scheme, host, path, joined, ""))
        basic = None if login is None else login.basic
        answer = await fetch(url, authorization=basic, form=None)
        if basic is not None and may_be_anonymous and answer.status in {400, 401, 403}:
            answer = await fetch(url, authorization=None, form=None)
    return f"Bearer {_token(answer, registry=registry, has_login=login is not None)}"


def _token(answer: HttpAnswer, *, registry: str, has_login: bool) -> str:
    if answer.status in {408, 429} or answer.status >= 500:
        raise TransientError(
            f"the login service of {registry} answered {answer.status}; try again later",
            status=answer.status,
            is_throttle=answer.status in {429, 503},
        )
    if answer.status != 200:
        advice = "the login is wrong or has expired" if has_login else "it wants a login"
        raise AuthError(
            f"the login service of {registry} answered {answer.status}: {advice};"
            f" run: docker login {registry}"
        )
    try:
        wire = msgspec.json.decode(answer.body, type=_WireToken)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AuthError(f"the login service of {registry} gave no readable answer") from error
    token = wire.token or wire.access_token or ""
    if not token or not token.isascii() or not token.isprintable():
        raise AuthError(f"the login service of {registry} gave no usable token; run: docker login {registry}")
    return token
