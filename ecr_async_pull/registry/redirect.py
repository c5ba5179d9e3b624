"""Redirects to storage hosts, taken byte for byte: the signature covers the address as it was written."""

from __future__ import annotations

import aiohttp
from yarl import URL

from ..errors import RegistryError

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


def location_url(response: aiohttp.ClientResponse, *, plain_http: bool = False) -> URL:
    """Where a redirect leads, never quoted anew. Raises `RegistryError` where it must not be followed.

    A step down from https to http is refused unless `plain_http`.
    """
    host = response.url.host
    location = response.headers.get("Location", "").strip()
    if not location:
        raise RegistryError(
            f"{host} redirects without saying where to; try again later", status=response.status
        )
    try:
        url = URL(location, encoded=True)
        if not url.absolute:
            url = response.url.join(url)
        is_usable = url.scheme in {"http", "https"} and bool(url.host)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise RegistryError(f"{host} redirects to an address that can't be used", status=response.status)
    if url.scheme == "http" and response.url.scheme == "https" and not plain_http:
        raise RegistryError(
            f"{host} redirects from https to http on {url.host}; refused (--plain-http would allow it)",
            status=response.status,
        )
    return url
