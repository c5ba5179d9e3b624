"""ECR's GetAuthorizationToken: the only module that uses aioboto3, and it imports it only for a call.

The token is asked for without `registryIds` (deprecated: one token opens every registry of the region that
the principal may use) and `proxyEndpoint` is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import AuthError
from .ecr_host import EcrRegistry

_log = logging.getLogger(__name__)

_SSO_ERRORS = (
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "TokenRetrievalError",
    "SSOError",
    "LoginRefreshRequired",
)
_EXPIRED_CODES = ("ExpiredTokenException", "ExpiredToken", "RequestExpired")
_INVALID_CODES = (
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
)
_DENIED_CODES = ("AccessDeniedException", "AccessDenied", "UnauthorizedOperation")
_NETWORK_ERRORS = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
)
_VARIANT_ERRORS = ("EndpointVariantError", "EndpointProviderError", "UnknownEndpointResolutionError")
_UNPRINTABLE = re.compile(r"\s+|[^ -~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class EcrToken:
    """`authorization` is the whole header value; `expires_at_s` is Unix seconds as ECR says."""

    authorization: str = field(repr=False)
    expires_at_s: float | None


async def request_token(
    registry: EcrRegistry,
    *,
    ca_file: Path | None,
    environment: Mapping[str, str],
    connect_timeout_s: float,
    read_timeout_s: float,
) -> EcrToken:
    """Ask ECR for a token with the credentials of AWS's ordinary chain. Raises `AuthError`."""
    with _quiet_loggers():
        aioboto3, aio_config, exceptions, aio_session = await asyncio.to_thread(_import_libraries)
        try:
            core = aio_session.AioSession()
            if ca_file is not None:
                core.set_config_variable("ca_bundle", str(ca_file))
            if not environment.get("AWS_DEFAULT_REGION") and environment.get("AWS_REGION"):
                core.set_config_variable("region", environment["AWS_REGION"])
            session = aioboto3.Session(botocore_session=core)
            for is_dualstack in (True, False) if registry.is_dualstack else (False,):
                config = aio_config.AioConfig(
                    connect_timeout=connect_timeout_s,
                    read_timeout=read_timeout_s,
                    retries={"mode": "standard", "total_max_attempts": 4},
                    **({"use_fips_endpoint": True} if registry.is_fips else {}),
                    **({"use_dualstack_endpoint": True} if is_dualstack else {}),
                )
                try:
                    async with session.client(
                        "ecr",
                        region_name=registry.region,
                        config=config,
                        verify=None if ca_file is None else str(ca_file),
                    ) as client:
                        answer = await client.get_authorization_token()
                    break
                except exceptions.BotoCoreError as error:
                    if not (is_dualstack and type(error).__name__ in _VARIANT_ERRORS):
                        raise
                    _log.debug("no dual-stack token endpoint in %s; asking the ordinary one", registry.region)
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            raise _auth_error(error, registry=registry, environment=environment, ca_file=ca_file) from error
        except (OSError, ValueError) as error:
            raise AuthError(
                f"no ECR token for {registry.region}: {_one_line(error)}; check the AWS configuration"
            ) from error
    return _from_wire(answer, region=registry.region)


def _import_libraries() -> tuple[Any, Any, Any, Any]:
    """Imported in a thread: together they take a quarter of a second."""
    names = ("aioboto3", "aiobotocore.config", "botocore.exceptions", "aiobotocore.session")
    first, second, third, fourth = (importlib.import_module(name) for name in names)
    return first, second, third, fourth


@contextlib.contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keep the libraries' tracebacks of failed logins off the screen: our error says the same in one line."""
    loggers = [logging.getLogger(name) for name in ("aiobotocore", "botocore", "aioboto3", "boto3")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _from_wire(answer: Mapping[str, Any], *, region: str) -> EcrToken:
    data = (answer.get("authorizationData") or [{}])[0]
    token = str(data.get("authorizationToken") or "")
    if not re.fullmatch(r"[A-Za-z0-9+/_-]+=*", token):
        raise AuthError(f"ECR in {region} answered without a usable token; check AWS_ENDPOINT_URL_ECR")
    expires_at = data.get("expiresAt")
    return EcrToken(
        authorization=f"Basic {token}",
        expires_at_s=None if expires_at is None else float(expires_at.timestamp()),
    )


def _auth_error(
    error: Exception, *, registry: EcrRegistry, environment: Mapping[str, str], ca_file: Path | None
) -> AuthError:
    """Botocore's error in one line that says what to do next."""
    kind = type(error).__name__
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or ""
    option = f" --profile {profile}" if profile else ""
    region = registry.region
    response = getattr(error, "response", None)
    code = str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
    message = str(response.get("Error", {}).get("Message", "")) if isinstance(response, dict) else ""
    if kind in _SSO_ERRORS:
        return AuthError(f"the AWS SSO login is missing or has expired; run: aws sso login{option}")
    if kind == "NoCredentialsError":
        return AuthError(
            "no AWS credentials found; set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
            f" or run: aws configure{option}"
        )
    if kind == "PartialCredentialsError":
        return AuthError(f"the AWS credentials are incomplete ({_one_line(error)}); complete them")
    if kind == "ProfileNotFound":
        return AuthError(f"the AWS profile {profile!r} is not in the AWS config; correct AWS_PROFILE")
    if code in _EXPIRED_CODES:
        return AuthError(f"the AWS credentials have expired; renew them (for SSO: aws sso login{option})")
    if code in _INVALID_CODES:
        return AuthError(
            f"AWS in {region} does not accept these credentials ({code}); check the keys, and that the region"
            " is enabled for the account"
        )
    if code in _DENIED_CODES and "AssumeRole" in message:
        return AuthError(
            f"AWS refused to let this principal assume the role: {_one_line(message)}; check its trust policy"
        )
    if code in _DENIED_CODES:
        return AuthError(
            f"AWS denied a token: {_one_line(message)}; ask for ecr:GetAuthorizationToken on resource *"
        )
    if kind in {"InvalidRegionError", "NoRegionError"}:
        return AuthError(f"{region!r} is no AWS region; correct the host in the reference")
    if kind == "ProxyConnectionError":
        return AuthError("the proxy does not answer; check HTTPS_PROXY and NO_PROXY")
    if kind == "SSLError" or (kind == "HTTPClientError" and "ertificate" in str(error)):
        return AuthError(
            f"the certificate of ECR's token endpoint in {region} is not trusted by"
            f" {ca_file or 'the default CA bundle'}; set AWS_CA_BUNDLE to your CA's file"
        )
    if kind in _NETWORK_ERRORS:
        return AuthError(
            f"ECR's token endpoint in {region} can't be reached; check the region, the network"
            " and AWS_ENDPOINT_URL_ECR"
        )
    if kind in {"CredentialRetrievalError", "MetadataRetrievalError", "RefreshWithMFAUnsupportedError"}:
        return AuthError(
            f"the AWS credentials can't be retrieved: {_one_line(error)}; check the profile{option}"
        )
    return AuthError(
        f"no ECR token for {region}: {code or kind}: {_one_line(message or error)};"
        " check the AWS configuration"
    )


def _one_line(error: object) -> str:
    return _UNPRINTABLE.sub(" ", str(error)).strip()[:300].rstrip(".")
