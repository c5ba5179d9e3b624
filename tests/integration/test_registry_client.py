"""The registry client against odd answers, each from a real server on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from ecr_async_pull.digest import Digest
from ecr_async_pull.errors import (
    AuthError,
    IntegrityError,
    NotFoundError,
    PullError,
    RegistryError,
    TransientError,
    UnsupportedImageError,
    UsageError,
)
from ecr_async_pull.model.descriptor import OCI_CONFIG, OCI_LAYER_TAR, OCI_MANIFEST, Descriptor
from ecr_async_pull.model.manifest import Manifest
from ecr_async_pull.registry.faults import LinkExpired, retry_after_s, storage_fault
from ecr_async_pull.registry.redirect import location_url
from ecr_async_pull.settings import MIB
from tests.integration.registry_stub import RegistryStub, Say, client_of

BLOB = b"{}" * 20
BLOB_DESCRIPTOR = Descriptor(media_type=OCI_CONFIG, digest=Digest.of(BLOB), size_bytes=len(BLOB))
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": str(Digest.of(BLOB)), "size": len(BLOB)},
        "layers": [{"mediaType": OCI_LAYER_TAR, "digest": "sha256:" + "0" * 64, "size": 1}],
    }
).encode()
DIGEST = Digest.of(MANIFEST)
GOOD = Say(body=MANIFEST, content_type=OCI_MANIFEST)
BY_TAG = "/v2/a/b/manifests/1"
BY_DIGEST = f"/v2/a/b/manifests/{DIGEST}"
BLOB_PATH = f"/v2/a/b/blobs/{BLOB_DESCRIPTOR.digest}"


def errors(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def fetch(
    *answers: Say, reference: str = "1", path: str = BY_TAG, **options: Any
) -> tuple[Any, RegistryStub]:
    """The document or the error of one fetch, and the server that was asked."""

    async def run() -> tuple[Any, RegistryStub]:
        async with RegistryStub() as stub, client_of(stub.host, **options) as client:
            stub.say("GET", path, *answers)
            try:
                return await client.fetch_document("a/b", reference), stub
            except PullError as error:
                return error, stub

    return asyncio.run(run())


def test_all_four_modern_types_are_accepted_and_nothing_is_compressed() -> None:
    document, stub = fetch(GOOD)
    assert isinstance(document, Manifest)
    assert (document.raw, document.digest) == (MANIFEST, DIGEST)
    headers = stub.asked[0].headers
    assert len(headers["Accept"].split(", ")) == 4
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("ecr-async-pull/")
    assert "Authorization" not in headers


def test_bytes_fetched_by_digest_must_have_it() -> None:
    assert fetch(GOOD, reference=str(DIGEST), path=BY_DIGEST)[0].digest == DIGEST
    error, _ = fetch(
        Say(body=MANIFEST + b" ", content_type=OCI_MANIFEST), reference=str(DIGEST), path=BY_DIGEST
    )
    assert isinstance(error, IntegrityError)


def test_a_wrong_digest_header_by_tag_is_only_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    headers = {"Docker-Content-Digest": "sha256:" + "1" * 64}
    with caplog.at_level(logging.WARNING):
        document, _ = fetch(Say(body=MANIFEST, content_type=OCI_MANIFEST, headers=headers))
    assert document.digest == DIGEST
    assert "1111" in caplog.text


def test_a_manifest_without_end_is_cut_off() -> None:
    error, _ = fetch(Say(body=b" " * (9 * MIB), content_type=OCI_MANIFEST))
    assert isinstance(error, UnsupportedImageError)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (Say(status=401, body=b"Not Authorized\n"), AuthError, "wants a login"),
        (
            Say(status=403, body=errors("DENIED", "User: x is not authorized\nto perform: y")),
            AuthError,
            "ecr:BatchGetImage",
        ),
        (Say(status=400, body=errors("DENIED", "Your Authorization Token is invalid.")), AuthError, "login"),
        (
            Say(status=404, body=errors("NAME_UNKNOWN", "The repository does not exist")),
            NotFoundError,
            "no such repository",
        ),
        (
            Say(status=404, body=errors("MANIFEST_UNKNOWN", "Requested image not found")),
            NotFoundError,
            "a/b:1",
        ),
        (Say(status=404, body=b"<html>nginx</html>"), NotFoundError, "a/b:1"),
        (Say(status=405, body=errors("UNSUPPORTED", "Invalid parameter")), RegistryError, "405"),
        (Say(status=418, body=b"\xff\xfe\x1b[31m"), RegistryError, "418"),
        (Say(body=b"<html>", content_type="text/html"), UnsupportedImageError, "not a manifest"),
        (Say(status=307), RegistryError, "without saying where"),
    ],
)
def test_an_error_is_one_printable_line_of_the_right_branch(
    answer: Say, kind: type[PullError], text: str
) -> None:
    error, stub = fetch(answer)
    assert isinstance(error, kind)
    assert text in str(error)
    assert str(error).isprintable()
    assert len(stub.asked) == 1


def test_a_throttle_is_waited_out_as_long_as_the_server_asks() -> None:
    busy = Say(status=429, body=errors("TOOMANYREQUESTS", "Rate exceeded"), headers={"Retry-After": "0"})
    document, stub = fetch(busy, busy, GOOD)
    assert document.digest == DIGEST
    assert len(stub.asked) == 3


@pytest.mark.parametrize(
    "fault",
    [
        Say(status=500),
        Say(status=503),
        Say(status=408),
        Say(body=MANIFEST, content_type=OCI_MANIFEST, cut_after_bytes=10),
        Say(body=MANIFEST, content_type=OCI_MANIFEST, cut_after_bytes=0),
    ],
)
def test_a_transient_fault_is_met_with_another_try(fault: Say) -> None:
    document, stub = fetch(fault, GOOD)
    assert document.digest == DIGEST
    assert len(stub.asked) == 2


def test_tries_end_and_the_last_fault_says_what_was_wrong() -> None:
    error, stub = fetch(Say(status=503, body=b"overloaded", headers={"Retry-After": "0"}), attempts=2)
    assert isinstance(error, TransientError)
    assert error.is_throttle
    assert error.retry_after_s == 0
    assert "overloaded" in str(error)
    assert len(stub.asked) == 2


def test_a_head_tells_the_digest_and_none_where_the_header_is_missing() -> None:
    async def run() -> tuple[Digest | None, Digest | None, int]:
        async with RegistryStub() as stub, client_of(stub.host) as client:
            stub.say("HEAD", BY_TAG, Say(headers={"Docker-Content-Digest": str(DIGEST)}), Say())
            answers = await client.head_digest("a/b", "1"), await client.head_digest("a/b", "1")
            return *answers, len(stub.asked)

    assert asyncio.run(run()) == (DIGEST, None, 2)


def test_what_is_wrong_with_a_head_is_told_by_a_get() -> None:
    async def run() -> None:
        async with RegistryStub() as stub, client_of(stub.host) as client:
            stub.say("HEAD", BY_TAG, Say(status=403))
            stub.say("GET", BY_TAG, Say(status=403, body=errors("DENIED", "the reason")))
            await client.head_digest("a/b", "1")

    with pytest.raises(AuthError, match="the reason"):
        asyncio.run(run())


def bearer_config(tmp_path: Path, registry: str) -> Path:
    path = tmp_path / "config.json"
    login = base64.b64encode(b"me:secret").decode()
    path.write_text(json.dumps({"auths": {registry: {"auth": login}}}))
    return path


def test_a_bearer_challenge_is_answered_with_the_docker_login_and_the_token_serves_further_requests(
    tmp_path: Path,
) -> None:
    async def run() -> RegistryStub:
        async with RegistryStub() as stub:
            challenge = f'Bearer realm="{stub.origin}/token?x=1",service="reg",scope="repository:a/b:pull"'
            stub.say("GET", BY_TAG, Say(status=401, headers={"WWW-Authenticate": challenge}), GOOD)
            stub.say("GET", "/token", Say(body=b'{"token": "t1", "expires_in": 300}'))
            async with client_of(stub.host, docker_config=bearer_config(tmp_path, stub.host)) as client:
                await client.fetch_document("a/b", "1")
                await client.fetch_document("a/b", "1")
            return stub

    stub = asyncio.run(run())
    (token_request,) = stub.asked_for("/token")
    assert token_request.path == "/token?x=1&service=reg&scope=repository:a/b:pull"
    assert token_request.headers["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
    sent = [request.headers.get("Authorization") for request in stub.asked_for(BY_TAG)]
    assert sent == [None, "Bearer t1", "Bearer t1"]


@pytest.mark.parametrize("is_login_right", [True, False])
def test_a_basic_challenge_is_answered_with_the_docker_login_once(
    tmp_path: Path, is_login_right: bool
) -> None:
    async def run() -> tuple[RegistryStub, str]:
        async with RegistryStub() as stub:
            refusal = Say(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            stub.say("GET", BY_TAG, refusal, GOOD if is_login_right else refusal)
            async with client_of(stub.host, docker_config=bearer_config(tmp_path, stub.host)) as client:
                try:
                    await client.fetch_document("a/b", "1")
                except AuthError as error:
                    return stub, str(error)
            return stub, ""

    stub, message = asyncio.run(run())
    assert len(stub.asked) == 2
    assert ("refused our login" in message) != is_login_right
    assert "secret" not in message


def test_requests_refused_together_share_one_renewal() -> None:
    async def run() -> RegistryStub:
        async with RegistryStub() as stub:
            challenge = Say(
                status=401, headers={"WWW-Authenticate": f'Bearer realm="{stub.origin}/token",service="r"'}
            )
            stub.say("GET", BY_TAG, *[challenge] * 8, GOOD)
            stub.say(
                "GET", "/token", Say(body=b'{"access_token": "t1"}'), Say(body=b'{"access_token": "t2"}')
            )
            async with client_of(stub.host) as client, asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(client.fetch_document("a/b", "1"))
            return stub

    assert len(asyncio.run(run()).asked_for("/token")) == 1


def test_a_realm_that_is_not_https_gets_no_login(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))

    async def run() -> None:
        async with RegistryStub(ca=ca) as stub:
            challenge = {"WWW-Authenticate": f'Bearer realm="http://localhost:{stub.port}/token"'}
            stub.say("GET", BY_TAG, Say(status=401, headers=challenge))
            async with client_of(stub.host, plain_http=False, ca_file=ca_file) as client:
                await client.fetch_document("a/b", "1")

    with pytest.raises(AuthError, match="not https"):
        asyncio.run(run())


def small_blob(
    *answers: Say, storage: tuple[Say, ...] = (), location: str = ""
) -> tuple[Any, RegistryStub, RegistryStub]:
    async def run() -> tuple[Any, RegistryStub, RegistryStub]:
        async with RegistryStub() as stub, RegistryStub() as store, client_of(stub.host) as client:
            stub.say(
                "GET",
                BLOB_PATH,
                *(answers or (Say(status=307, headers={"Location": store.origin + location}),)),
            )
            store.say("GET", "/k/x", *storage)
            try:
                return await client.fetch_small_blob("a/b", BLOB_DESCRIPTOR, cap_bytes=1000), stub, store
            except PullError as error:
                return error, stub, store

    return asyncio.run(run())


def test_a_redirect_is_followed_byte_for_byte_and_without_credentials() -> None:
    location = "/k%2Fx?X-Amz-Credential=a%2Fb%3A1&sig=%2b+%7E~&q=a/b"
    raw, _, store = small_blob(storage=(Say(body=BLOB),), location=location)
    assert raw == BLOB
    assert store.asked[0].path == location
    assert "Authorization" not in store.asked[0].headers
    assert "Cookie" not in store.asked[0].headers


def test_an_inline_blob_is_taken_as_it_is() -> None:
    assert small_blob(Say(body=BLOB, headers={"Content-Encoding": "gzip"}))[0] == BLOB


@pytest.mark.parametrize("body", [BLOB[:-1], BLOB + b"x", BLOB[:-1] + b"x", b""])
def test_a_blob_of_another_size_or_digest_is_refused(body: bytes) -> None:
    assert isinstance(small_blob(Say(body=body))[0], IntegrityError)


def test_a_small_blob_that_claims_to_be_large_is_not_asked_for() -> None:
    async def run() -> None:
        async with client_of("localhost:1") as client:
            await client.fetch_small_blob("a/b", BLOB_DESCRIPTOR, cap_bytes=3)

    with pytest.raises(UnsupportedImageError):
        asyncio.run(run())


def test_an_expired_link_is_asked_for_anew() -> None:
    expired = Say(
        status=403, body=b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    )
    raw, stub, _ = small_blob(storage=(expired, Say(body=BLOB)), location="/k/x?s=1")
    assert raw == BLOB
    assert len(stub.asked) == 2


def test_a_storage_host_that_denies_names_the_bucket_policy_and_no_query() -> None:
    denied = Say(status=403, body=b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
    error, stub, _ = small_blob(storage=(denied,), location="/k/x?signature=hush")
    assert isinstance(error, RegistryError)
    assert "s3:GetObject" in str(error)
    assert "hush" not in str(error)
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "is_link_fresh", "kind"),
    [
        (
            403,
            b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            True,
            LinkExpired,
        ),
        (400, b"<Error><Code>ExpiredToken</Code><Message>x</Message></Error>", True, LinkExpired),
        (403, b"", False, LinkExpired),
        (403, b"", True, RegistryError),
        (503, b"<Error><Code>SlowDown</Code></Error>", False, TransientError),
        (500, b"<Error><Code>InternalError</Code></Error>", False, TransientError),
        (404, b"<Error><Code>NoSuchKey</Code></Error>", False, NotFoundError),
        (400, b"<Error><Code>InvalidArgument</Code></Error>", False, RegistryError),
        (416, b"", False, RegistryError),
    ],
)
def test_storage_answers_have_their_meaning(
    status: int, body: bytes, is_link_fresh: bool, kind: type[PullError]
) -> None:
    fault = storage_fault(status, {}, body, host="s3", what="x", is_link_fresh=is_link_fresh)
    assert type(fault) is kind
    assert isinstance(fault, TransientError) == fault.is_transient


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("3", 3.0),
        ("-1", 0.0),
        ("99999", 120.0),
        ("nan", None),
        ("x", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_within_bounds(header: str, expected: float | None) -> None:
    assert retry_after_s({"Retry-After": header}) == expected


def blob_request(
    answer: Say, *, headers: dict[str, str] | None = None
) -> tuple[int, bytes, str, dict[str, str]]:
    async def run() -> tuple[int, bytes, str, dict[str, str]]:
        async with RegistryStub() as stub, client_of(stub.host) as client:
            stub.say("GET", BLOB_PATH, answer)
            async with client.request_blob("a/b", BLOB_DESCRIPTOR.digest, headers=headers or {}) as response:
                target = str(location_url(response)) if response.status == 307 else ""
                return response.status, await response.read(), target, dict(stub.asked[0].headers)

    return asyncio.run(run())


def test_a_blob_request_hands_out_bodies_ranges_and_redirects() -> None:
    assert blob_request(Say(body=BLOB))[:2] == (200, BLOB)
    status, body, _, sent = blob_request(Say(status=206, body=b"{"), headers={"Range": "bytes=0-0"})
    assert (status, body, sent["Range"]) == (206, b"{", "bytes=0-0")
    assert (
        blob_request(Say(status=307, headers={"Location": "https://s3/x?a=%2F"}))[2] == "https://s3/x?a=%2F"
    )
    assert blob_request(Say(status=307, headers={"Location": "/x?a=%2F"}))[2].endswith("/x?a=%2F")


def test_a_blob_request_is_a_single_try() -> None:
    with pytest.raises(TransientError):
        blob_request(Say(status=503))
    with pytest.raises(NotFoundError):
        blob_request(Say(status=404, body=errors("BLOB_UNKNOWN", "x")))


def test_what_a_caller_raises_inside_a_blob_request_stays_what_it_is() -> None:
    async def run() -> None:
        async with RegistryStub() as stub, client_of(stub.host) as client:
            stub.say("GET", BLOB_PATH, Say(body=BLOB))
            async with client.request_blob("a/b", BLOB_DESCRIPTOR.digest, headers={}):
                raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        asyncio.run(run())


def test_a_body_that_breaks_off_inside_a_blob_request_is_transient() -> None:
    with pytest.raises(TransientError, match="broke off"):
        blob_request(Say(body=BLOB, cut_after_bytes=5))


def over_tls(
    tmp_path: Path, *, ca_file: Path | None = None, stub_tls: bool = True, plain_http: bool = False
) -> Any:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "good.pem"))

    async def run() -> Any:
        async with RegistryStub(ca=ca if stub_tls else None) as stub:
            stub.say("GET", BY_TAG, GOOD)
            async with client_of(stub.host, plain_http=plain_http, ca_file=ca_file, attempts=1) as client:
                return await client.fetch_document("a/b", "1")

    return asyncio.run(run())


def test_a_ca_file_makes_a_private_registry_trusted_and_nothing_else_does(tmp_path: Path) -> None:
    assert over_tls(tmp_path, ca_file=tmp_path / "good.pem").digest == DIGEST
    with pytest.raises(RegistryError, match="AWS_CA_BUNDLE") as caught:
        over_tls(tmp_path)
    assert not caught.value.is_transient


def test_a_server_without_tls_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="--plain-http") as caught:
        over_tls(tmp_path, stub_tls=False)
    assert not caught.value.is_transient


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_a_ca_file_that_cannot_be_used_is_told_before_any_request(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bundle\.pem.*AWS_CA_BUNDLE"):
        over_tls(tmp_path, ca_file=path)


def test_a_step_down_to_http_is_refused(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async def run() -> None:
        async with RegistryStub(ca=ca) as stub, RegistryStub() as store:
            stub.say("GET", BLOB_PATH, Say(status=307, headers={"Location": f"{store.origin}/k/x"}))
            async with client_of(stub.host, plain_http=False, ca_file=tmp_path / "ca.pem") as client:
                await client.fetch_small_blob("a/b", BLOB_DESCRIPTOR, cap_bytes=1000)

    with pytest.raises(RegistryError, match="https to http"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("registry", "text"),
    [("nowhere.invalid", "does not resolve"), ("localhost:1", "can't be reached")],
)
def test_an_unreachable_host_is_named(registry: str, text: str) -> None:
    async def run() -> None:
        async with client_of(registry, attempts=1) as client:
            await client.fetch_document("a/b", "1")

    with pytest.raises(RegistryError, match=text) as caught:
        asyncio.run(run())
    assert registry in str(caught.value)


def test_a_login_in_netrc_never_reaches_a_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".netrc").write_text("machine localhost login me password hush\n")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    document, stub = fetch(GOOD)
    assert document.digest == DIGEST
    assert "Authorization" not in stub.asked[0].headers


def test_a_proxy_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[str]:
        async with RegistryStub() as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.origin)
            async with client_of("registry.example") as client:
                with pytest.raises(NotFoundError):
                    await client.fetch_document("a/b", "1")
            return [request.headers["Host"] for request in proxy.asked]

    assert asyncio.run(run()) == ["registry.example"]


def test_the_idle_timeout_cuts_a_server_that_says_nothing() -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
        async with server:
            host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with client_of(host, attempts=1, idle_timeout_s=0.2) as client:
                await client.fetch_document("a/b", "1")

    with pytest.raises(TransientError, match="in time"):
        asyncio.run(run())


def test_the_system_bundle_is_not_loaded_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp loads it when it is imported: that context serves both sessions."""
    loads: list[ssl.SSLContext] = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda context, *_: loads.append(context))
    fetch(GOOD)
    assert loads == []
