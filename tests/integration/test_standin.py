"""The stand-in does what it says: every answer that later tests lean on, and every fault."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import ssl
import tarfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aioboto3
import aiohttp
import pytest
from yarl import URL

from tests.standin import faults
from tests.standin.images import ImageBuilder, make_layer
from tests.standin.proof import ProofError, contents, prove
from tests.standin.server import ACCESS_KEY, SECRET_KEY, StandIn
from tests.standin.zoo import zoo

LAYER = make_layer([("data", bytes(range(256)) * 4096)], compression="none", oci=True)
IMAGE = ImageBuilder(oci=True).add(LAYER).build()
BLOB = LAYER.stored()


class Client:
    """A plain aiohttp client that trusts the stand-in, with a token."""

    def __init__(self, standin: StandIn, session: aiohttp.ClientSession) -> None:
        self.standin = standin
        self.session = session
        self.host = standin.registry_host
        self.token = standin.tokens.issue(region="us-east-1").text

    async def get(
        self, url: str, *, method: str = "GET", with_token: bool = True, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if with_token:
            sent["Authorization"] = f"Basic {self.token}"
        target = URL(url if url.startswith("https:") else f"https://{self.host}{url}", encoded=True)
        proxy = None if target.host == "localhost" else self.standin.proxy_url
        async with self.session.request(
            method, target, headers=sent, allow_redirects=False, proxy=proxy
        ) as response:
            return response.status, {key.lower(): value for key, value in response.headers.items()}, (
                await response.read()
            )  # fmt: skip

    async def locate(self, digest: str = LAYER.digest) -> str:
        status, headers, _ = await self.get(f"/v2/team/app/blobs/{digest}")
        assert status == 307
        return headers["location"]

    async def fetch(self, url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return await self.get(url, with_token=False, **headers)


def with_client(scenario: Callable[[Client], Awaitable[None]], standin: StandIn) -> None:
    async def run() -> None:
        tls = ssl.create_default_context(cafile=str(standin.ca_file))
        connector = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            await scenario(Client(standin, session))

    standin.add("team/app", "1.0", IMAGE)
    asyncio.run(run())


# --- the token API -------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["endpoint", "proxy"])
def test_boto_gets_a_token_that_opens_the_registry(
    standin: StandIn, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in standin.environment().items():
        monkeypatch.setenv(name, value)
    endpoint = standin.token_endpoint if through == "endpoint" else None

    async def scenario(client: Client) -> None:
        session = aioboto3.Session(region_name="us-east-1")
        async with session.client("ecr", endpoint_url=endpoint) as ecr:
            answer = await ecr.get_authorization_token()
        (data,) = answer["authorizationData"]
        client.token = data["authorizationToken"]
        assert base64.b64decode(client.token).startswith(b"AWS:")
        assert data["expiresAt"].timestamp() > time.time() + 11 * 3600
        assert (await client.get("/v2/"))[0] == 200

    with_client(scenario, standin)
    assert standin.requests[0].server == "token"
    assert [each.partition(":")[0] for each in standin.proxy.connects] == (
        ["api.ecr.us-east-1.amazonaws.com"] if through == "proxy" else []
    )


def test_a_wrong_access_key_gets_no_token(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(standin.ca_file))

    async def scenario(_: Client) -> None:
        session = aioboto3.Session("AKIAUNKNOWN", SECRET_KEY, region_name="us-east-1")
        async with session.client("ecr", endpoint_url=standin.token_endpoint) as ecr:
            with pytest.raises(Exception, match=r"UnrecognizedClientException.*security token"):
                await ecr.get_authorization_token()

    assert ACCESS_KEY != "AKIAUNKNOWN"
    with_client(scenario, standin)


# --- the registry ----------------------------------------------------------------------------------------


def test_without_a_token_the_registry_challenges_in_plain_text(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        status, headers, body = await client.fetch(f"https://{client.host}/v2/")
        assert (status, body) == (401, b"Not Authorized\n")
        assert headers["www-authenticate"].startswith("Basic realm=")
        assert 'service="ecr.amazonaws.com"' in headers["www-authenticate"]

    with_client(scenario, standin)


def test_invalid_expired_and_foreign_tokens_are_told_apart(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        good = client.token
        client.token = "bm8="
        status, _, body = await client.get("/v2/")
        assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DENIED")
        client.host, client.token = standin.ecr_host, standin.tokens.issue(region="eu-west-1").text
        assert (await client.get("/v2/"))[0] == 400
        client.token = good
        assert (await client.get("/v2/"))[0] == 200
        standin.tokens.expire_all()
        status, headers, body = await client.get("/v2/")
        assert status == 403
        assert "authorization token has expired" in json.loads(body)["errors"][0]["message"]
        assert "www-authenticate" not in headers

    with_client(scenario, standin)


def test_manifests_come_by_tag_and_by_digest_and_only_head_says_the_digest(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        for what in ("1.0", IMAGE.digest):
            status, headers, body = await client.get(f"/v2/team/app/manifests/{what}")
            assert (status, body, headers["content-type"]) == (200, IMAGE.manifest_raw, IMAGE.media_type)
            assert "docker-content-digest" not in headers
            status, headers, body = await client.get(f"/v2/team/app/manifests/{what}", method="HEAD")
            assert (status, body, headers["docker-content-digest"]) == (200, b"", IMAGE.digest)
            assert headers["content-length"] == str(len(IMAGE.manifest_raw))

    with_client(scenario, standin)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/team/other/manifests/1.0", "NAME_UNKNOWN"),
        ("/v2/team/app/manifests/2.0", "MANIFEST_UNKNOWN"),
        (f"/v2/team/app/blobs/sha256:{'0' * 64}", "BLOB_UNKNOWN"),
    ],
)
def test_what_does_not_exist_is_a_404_with_its_code(standin: StandIn, path: str, code: str) -> None:
    async def scenario(client: Client) -> None:
        status, _, body = await client.get(path)
        assert (status, json.loads(body)["errors"][0]["code"]) == (404, code)

    with_client(scenario, standin)


def test_a_moved_tag_names_the_new_image(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        moved = zoo()["plain"]
        standin.add("team/app", "1.0", moved)
        assert (await client.get("/v2/team/app/manifests/1.0"))[2] == moved.manifest_raw
        assert (await client.get(f"/v2/team/app/manifests/{IMAGE.digest}"))[2] == IMAGE.manifest_raw

    with_client(scenario, standin)


def test_the_true_names_lead_through_the_proxy_to_registry_and_storage(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        client.host = standin.ecr_host
        location = await client.locate()
        assert URL(location).host == "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com"
        assert (await client.fetch(location))[2] == BLOB
        with pytest.raises(aiohttp.ClientHttpProxyError, match="403"):
            await client.fetch("https://elsewhere.example.com/")

    with_client(scenario, standin)


def test_a_bearer_registry_gives_a_token_to_anyone_and_challenges_without() -> None:
    async def scenario(client: Client) -> None:
        status, headers, _ = await client.fetch(f"https://{client.host}/v2/")
        assert (status, headers["www-authenticate"][:6]) == (401, "Bearer")
        assert (await client.get("/v2/"))[0] == 400  # Basic isn't taken
        token = json.loads((await client.fetch(f"https://{client.host}/token/"))[2])["token"]
        status, _, _ = await client.fetch(f"https://{client.host}/v2/", Authorization=f"Bearer {token}")
        assert status == 200

    with StandIn.threaded(authentication="bearer") as standin:
        with_client(scenario, standin)


def test_an_anonymous_registry_asks_for_nothing() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.fetch(f"https://{client.host}/v2/team/app/manifests/1.0"))[0] == 200

    with StandIn.threaded(authentication="anonymous") as standin:
        with_client(scenario, standin)


# --- the storage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-0", 206, BLOB[:1], f"bytes 0-0/{len(BLOB)}"),
        ("bytes=100-299", 206, BLOB[100:300], f"bytes 100-299/{len(BLOB)}"),
        (f"bytes={len(BLOB) - 5}-", 206, BLOB[-5:], f"bytes {len(BLOB) - 5}-{len(BLOB) - 1}/{len(BLOB)}"),
        ("bytes=-7", 206, BLOB[-7:], f"bytes {len(BLOB) - 7}-{len(BLOB) - 1}/{len(BLOB)}"),
        (f"bytes=10-{len(BLOB) * 2}", 206, BLOB[10:], f"bytes 10-{len(BLOB) - 1}/{len(BLOB)}"),
        ("bytes=0-1,5-6", 200, BLOB, None),
        ("bytes=9-3", 200, BLOB, None),
        ("lines=0-1", 200, BLOB, None),
        (f"bytes={len(BLOB)}-", 416, None, f"bytes */{len(BLOB)}"),
    ],
)
def test_a_single_range_is_honoured_and_others_are_not(
    standin: StandIn, wanted: str, status: int, body: bytes | None, content_range: str | None
) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.fetch(await client.locate(), Range=wanted)
        assert (answer[0], answer[1].get("content-range")) == (status, content_range)
        assert answer[2] == body or (body is None and b"InvalidRange" in answer[2])

    with_client(scenario, standin)


def test_a_link_must_come_back_byte_for_byte(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        location = await client.locate()
        assert "%2F" in location
        assert "%3A" in location
        assert (await client.fetch(location))[0] == 200
        for changed in (location.replace("%2F", "/"), location.replace("%3A", ":"), location[:-1] + "x"):
            status, _, body = await client.fetch(changed)
            assert (status, b"SignatureDoesNotMatch" in body) == (403, True)
        assert (await client.fetch(location.partition("?")[0]))[0] == 403

    with_client(scenario, standin)


def test_storage_refuses_an_authorization_header_and_head(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        location = await client.locate()
        status, _, body = await client.get(location)
        assert (status, b"<Code>InvalidArgument</Code>" in body) == (400, True)
        assert (await client.get(location, method="HEAD", with_token=False))[0] == 403

    with_client(scenario, standin)
    assert [each.has_authorization for each in standin.log.of("storage")] == [True, False]


def test_links_expire_when_their_life_is_over() -> None:
    async def scenario(client: Client) -> None:
        status, _, body = await client.fetch(await client.locate())
        assert (status, b"Request has expired" in body) == (403, True)

    with StandIn.threaded(link_life_s=0) as standin:
        with_client(scenario, standin)


def test_foreign_layers_come_without_a_signature_and_not_from_the_registry(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        image = zoo()["foreign-layer"]
        standin.add("team/app", "foreign", image)
        layer = image.layers[0]
        assert (await client.get(f"/v2/team/app/blobs/{layer.digest}"))[0] == 404
        assert (await client.fetch(layer.urls[0]))[2] == layer.stored()

    with_client(scenario, standin)


# --- the log -----------------------------------------------------------------------------------------------


def test_the_log_counts_bytes_once_and_as_often_as_sent(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        location = await client.locate()
        for wanted in ("bytes=0-999", "bytes=500-1499", "bytes=3000-3009"):
            await client.fetch(location, Range=wanted)

    with_client(scenario, standin)
    assert (standin.log.blob_bytes, standin.log.distinct_blob_bytes) == (2010, 1510)
    entries = standin.log.of("storage", digest=LAYER.digest)
    assert [each.range for each in entries] == [(0, 999), (500, 1499), (3000, 3009)]
    assert len({each.connection for each in entries}) == 1
    assert all(each.status == 206 for each in entries)
    assert "?" not in entries[0].path


# --- the proof ---------------------------------------------------------------------------------------------


def docker_archive(path: Path, **changed: bytes) -> None:
    name = IMAGE.config_digest[7:] + ".json"
    entry = [{"Config": name, "RepoTags": ["team/app:1.0"], "Layers": ["0/layer.tar"]}]
    members = {"manifest.json": json.dumps(entry).encode(), name: IMAGE.config_raw, "0/layer.tar": BLOB}
    with tarfile.open(path, "w") as tar:
        for member, data in (members | changed).items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_the_proof_accepts_the_image_and_refuses_one_wrong_byte(tmp_path: Path) -> None:
    docker_archive(tmp_path / "good.tar")
    assert len(list(prove(tmp_path / "good.tar", IMAGE, name="team/app:1.0"))) == 3
    assert len(list(contents(tmp_path / "good.tar"))) == 3
    with pytest.raises(ProofError, match="RepoTags"):
        list(prove(tmp_path / "good.tar", IMAGE, name="team/app:2.0"))
    docker_archive(tmp_path / "bad.tar", **{"0/layer.tar": BLOB[:-1] + b"x"})
    with pytest.raises(ProofError, match="layer 0"):
        list(prove(tmp_path / "bad.tar", IMAGE, name="team/app:1.0"))


# --- in the loop of the test -----------------------------------------------------------------------------


def test_it_also_serves_in_the_loop_of_its_user(never_blocks: list[str]) -> None:
    async def run() -> None:
        async with StandIn() as standin:
            standin.add("team/app", "1.0", IMAGE)
            tls = ssl.create_default_context(cafile=str(standin.ca_file))
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
                client = Client(standin, session)
                standin.faults.add(faults.Stall(10), server="storage")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.fetch(await client.locate()), 0.1)

    asyncio.run(run())


def test_the_watch_over_the_loop_sees_a_blocking_call(never_blocks: list[str]) -> None:
    async def run() -> None:
        time.sleep(0.25)  # noqa: ASYNC251 - the fault that is to be seen

    asyncio.run(run())
    assert len(never_blocks) == 1
    never_blocks.clear()
