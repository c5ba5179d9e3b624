"""What the environment decides: the only place below which nothing reads it, but AWS's credential chain."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..settings import ConnectionSettings

CACHE_VARIABLE = "ECR_ASYNC_PULL_CACHE_DIR"
_APPLICATION = "ecr-async-pull"


def connection_settings(environment: Mapping[str, str], *, plain_http: bool) -> ConnectionSettings:
    """CA bundle, docker's logins and the token cache."""
    from platformdirs import user_cache_path

    bundle = _ca_bundle(environment)
    docker = environment.get("DOCKER_CONFIG")
    docker_config = (Path(docker) if docker else Path("~/.docker").expanduser()) / "config.json"
    return ConnectionSettings(
        ca_file=Path(bundle) if bundle else None,
        plain_http=plain_http,
        docker_config=docker_config if docker_config.is_file() else None,
        token_cache_dir=user_cache_path(_APPLICATION, appauthor=False) / "tokens",
    )


def _ca_bundle(environment: Mapping[str, str]) -> str | None:
    """`AWS_CA_BUNDLE` goes before `SSL_CERT_FILE`."""
    return environment.get("AWS_CA_BUNDLE") or environment.get("SSL_CERT_FILE")


@contextmanager
def default_bundle_unread() -> Iterator[None]:
    """Around imports: aiohttp's reads the system's CA bundle, 20 to 50 ms, which a named one makes needless.

    OpenSSL is told to read the named one instead, but for as long only: what we start must not inherit that.
    """
    bundle, before = _ca_bundle(os.environ), os.environ.get("SSL_CERT_FILE")
    if bundle is None or bundle == before:
        yield
        return
    os.environ["SSL_CERT_FILE"] = bundle
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before


def cache_dir(environment: Mapping[str, str], option: Path | None) -> Path | None:
    """The blob cache: the option, else the environment's, else none."""
    if option is not None:
        return option
    named = environment.get(CACHE_VARIABLE)
    return Path(named) if named else None


def state_dir() -> Path:
    """Where it is remembered which output is which image."""
    from platformdirs import user_state_path

    return user_state_path(_APPLICATION, appauthor=False)
