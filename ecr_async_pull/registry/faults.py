"""HTTP answers and aiohttp's exceptions as this package's errors, at the registry's and the storage's edge.

Messages name hosts and what was asked for, never a URL's query.
"""

from __future__ import annotations

import datetime
import email.utils
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
import msgspec

from ..errors import AuthError, NotFoundError, PullError, RegistryError, TransientError

_TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_THROTTLE_STATUSES = frozenset({429, 503})
_UNPRINTABLE = re.compile(r"\s+|[^ -~]")
_XML_FIELD = re.compile(r"<(Code|Message)>([^<]{0,1000})</\1>")
_LONGEST_WAIT_S = 120.0
_CA_ADVICE = "set AWS_CA_BUNDLE or SSL_CERT_FILE to the file of the CA that signed it"

_PROXY_LOST_STATUSES = (502, 503, 504)
"""With these a proxy says that it can't reach the other side now."""


class LinkExpired(TransientError):  # noqa: N818
    """A storage host no longer honours a link: ask the registry for another one, then go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """What an error answer says: the first code and message, each a single printable line."""

    code: str | None = None
    message: str = ""


class _WireError(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None


class _WireErrors(msgspec.Struct, frozen=True):
    errors: tuple[_WireError, ...] | None = None
    message: str | None = None


def parse_error_body(body: bytes) -> ErrorBody:
    """Read distribution's JSON, S3's XML or plain text; servers send any of them with any content type."""
    try:
        wire = msgspec.json.decode(body, type=_WireErrors)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        text = body[:4096].decode("utf-8", "replace")
        fields = dict(_XML_FIELD.findall(text))
        if "Code" in fields:
            return ErrorBody(code=one_line(fields["Code"]), message=one_line(fields.get("Message", "")))
        return ErrorBody(message="" if text.lstrip().startswith("<") else one_line(text))
    first = wire.errors[0] if wire.errors else _WireError(message=wire.message)
    return ErrorBody(code=one_line(first.code or "") or None, message=one_line(first.message or ""))


def one_line(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text).strip()[:400].rstrip(".")


def is_token_refused(status: int, error: ErrorBody, *, is_public_ecr: bool = False) -> bool:
    """Whether a registry's answer means "another token", rather than "you may not".

    ECR says 403 to an expired token and 400 to one of another region; ECR Public says 400 to both.
    """
    if status == 401:
        return True
    message = error.message.lower()
    if status in {400, 403} and "authorization token has expired" in message:
        return True
    if status == 400 and error.code == "DENIED":
        return is_public_ecr or "authorization token is invalid" in message
    return False


def registry_fault(
    status: int, headers: Mapping[str, str], body: bytes, *, host: str, what: str, is_anonymous: bool = False
) -> PullError:
    """The error for a registry's answer that is neither a document, a blob nor a redirect."""
    error = parse_error_body(body)
    said = f": {error.message}" if error.message else ""
    code = error.code
    if status in _TRANSIENT_STATUSES:
        return TransientError(
            f"{host} answered {status} for {what}{said}; try again later",
            status=status,
            code=code,
            retry_after_s=retry_after_s(headers),
            is_throttle=status in _THROTTLE_STATUSES or code == "TOOMANYREQUESTS",
        )
    if is_token_refused(status, error):
        if is_anonymous:
            return AuthError(f"{host} wants a login for {what} ({status}{said}); run: docker login {host}")
        return AuthError(
            f"{host} refused our login for {what} ({status}{said}); check the region and account in the"
            " reference, or log in again"
        )
    if status == 403:
        return AuthError(
            f"{host} denied access to {what}{said or ' (403)'}; a pull needs ecr:BatchGetImage and"
            " ecr:GetDownloadUrlForLayer"
        )
    if status == 404 and code == "NAME_UNKNOWN":
        return NotFoundError(
            f"no such repository for {what} on {host}{said}; check its name, the region and the account",
            status=status,
            code=code,
        )
    if status == 404:
        return NotFoundError(f"{host} has no {what}{said}; check the tag or digest", status=status, code=code)
    return RegistryError(
        f"{host} answered {status} for {what}{said}; is it a registry, and the reference right?",
        status=status,
        code=code,
    )


def storage_fault(
    status: int, headers: Mapping[str, str], body: bytes, *, host: str, what: str, is_link_fresh: bool
) -> PullError:
    """The error for a storage host's answer that carries no blob bytes.

    `is_link_fresh`: the link was asked for anew because of a 403 already, so another 403 is final.
    """
    error = parse_error_body(body)
    code = error.code
    said = f": {error.message}" if error.message else ""
    is_expired = "request has expired" in error.message.lower() or code in {"ExpiredToken", "RequestExpired"}
    if (status in {400, 403} and is_expired) or (status == 403 and not is_link_fresh):
        return LinkExpired(f"the link to {what} on {host} has expired{said}", status=status, code=code)
    if status in _TRANSIENT_STATUSES or code in {"SlowDown", "RequestTimeout", "InternalError"}:
        return TransientError(
            f"{host} answered {status} for {what}{said}; try again later",
            status=status,
            code=code,
            retry_after_s=retry_after_s(headers),
            is_throttle=status in _THROTTLE_STATUSES or code == "SlowDown",
        )
    if status == 403:
        return RegistryError(
            f"{host} denied access to {what}{said}; in a VPC, the S3 endpoint's policy must allow"
            " s3:GetObject on ECR's bucket (arn:aws:s3:::prod-<region>-starport-layer-bucket/*)",
            status=status,
            code=code,
        )
    if status == 404:
        return NotFoundError(
            f"{host} no longer has {what}{said}; ask for a re-push", status=status, code=code
        )
    return RegistryError(f"{host} answered {status} for {what}{said}", status=status, code=code)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The Retry-After header (seconds or a date) in seconds from now, at most two minutes."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        wait_s = float(text)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        wait_s = (moment - datetime.datetime.now(datetime.UTC)).total_seconds()
    return min(max(wait_s, 0.0), _LONGEST_WAIT_S) if wait_s == wait_s else None  # noqa: PLR0124 - not NaN


@contextmanager
def translated(host: str, *, port: int | None = None) -> Iterator[None]:
    """Turn what aiohttp and sockets raise inside into `RegistryError`s about this host.

    Other `OSError`s pass: a disk may fail inside as well. aiohttp's timeouts are `ClientError`s.
    """
    try:
        yield
    except (aiohttp.ClientError, ConnectionError, ssl.SSLError, socket.gaierror) as error:
        name = host if port in {None, 80, 443} else f"{host}:{port}"
        raise connection_fault(error, host=name) from error


def connection_fault(error: Exception, *, host: str) -> RegistryError:
    """The error for a connection that failed: transient where another try may go well."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        certificate_error = getattr(error, "certificate_error", error)
        reason = getattr(certificate_error, "verify_message", None) or "it can't be verified"
        return RegistryError(f"the certificate of {host} is not trusted ({one_line(reason)}); {_CA_ADVICE}")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        if any(
            hint in str(error).upper() for hint in ("WRONG_VERSION_NUMBER", "WRONG VERSION", "RECORD LAYER")
        ):
            return RegistryError(
                f"{host} does not speak TLS; --plain-http asks over HTTP, if it may be trusted"
            )
        return TransientError(f"the TLS handshake with {host} failed; try again later")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return TransientError(f"the proxy on the way to {host} can't be reached; check HTTPS_PROXY")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        message = f"the proxy on the way to {host} refused; check HTTPS_PROXY and NO_PROXY"
        return TransientError(message) if error.status in _PROXY_LOST_STATUSES else RegistryError(message)
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        number = getattr(error, "errno", None)
        message = f"the host {host} does not resolve; check the account, region and spelling, and the network"
        return TransientError(message) if number == socket.EAI_AGAIN else RegistryError(message)
    if isinstance(error, aiohttp.InvalidURL):
        return RegistryError(f"{host} is no address that can be asked")
    if isinstance(error, TimeoutError):
        return TransientError(f"{host} did not answer in time; check the network, or try again later")
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = one_line(error.os_error.strerror or type(error.os_error).__name__)
        return TransientError(f"{host} can't be reached ({reason}); check the network and the reference")
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransientError(f"the answer of {host} broke off; try again later")
    if isinstance(error, aiohttp.ClientResponseError):
        return TransientError(
            f"{host} gave no valid HTTP answer; is it a registry?", status=error.status or None
        )
    return TransientError(f"the connection to {host} was lost ({type(error).__name__}); try again later")
