"""Every fault that the stand-in can be told to commit is really delivered, to whom and as often as told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable

import aiohttp
import pytest
from yarl import URL

from tests.integration.test_standin import BLOB, IMAGE, LAYER, Client, with_client
from tests.standin import faults
from tests.standin.server import StandIn


async def read_some(client: Client, url: str, *, expected: type[Exception] | None) -> bytes:
    """The body's bytes as far as they come, and the error that ends it."""
    got = bytearray()

    async def read() -> None:
        async with client.session.get(URL(url, encoded=True)) as response:
            async for piece in response.content.iter_any():
                got.extend(piece)

    if expected is None:
        await read()
    else:
        with pytest.raises(expected):
            await asyncio.wait_for(read(), 1.0)
    return bytes(got)


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (faults.Reset(70_000), aiohttp.ClientError),
        (faults.Short(70_000), aiohttp.ClientPayloadError),
        (faults.Stall(70_000), TimeoutError),
    ],
)
def test_a_body_breaks_at_the_byte_that_was_named(
    standin: StandIn, action: faults.Reset, error: type[Exception]
) -> None:
    async def scenario(client: Client) -> None:
        standin.faults.add(action, server="storage", times=1)
        location = await client.locate()
        assert await read_some(client, location, expected=error) == BLOB[:70_000]
        assert await read_some(client, location, expected=None) == BLOB

    with_client(scenario, standin)
    first, second = standin.log.of("storage")
    assert (first.bytes_sent, first.faults) == (70_000, (type(action).__name__,))
    assert (second.bytes_sent, second.faults) == (len(BLOB), ())
    assert first.connection != second.connection


def test_a_connection_may_be_reset_before_any_answer(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        location = await client.locate()
        standin.faults.add(faults.Reset(None), server="storage")
        assert await read_some(client, location, expected=aiohttp.ClientConnectionError) == b""

    with_client(scenario, standin)
    assert standin.log.of("storage")[0].status == 0


def test_a_slow_body_takes_its_time_and_arrives_whole(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        location = await client.locate()
        standin.faults.add(faults.Slow(len(BLOB) / 0.4), server="storage")
        started_s = time.monotonic()
        assert (await client.fetch(location))[2] == BLOB
        assert time.monotonic() - started_s >= 0.35

    with_client(scenario, standin)


def test_a_delayed_answer_comes_later(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        standin.faults.add(faults.Delay(0.2), path="/v2/")
        started_s = time.monotonic()
        assert (await client.get("/v2/"))[0] == 200
        assert time.monotonic() - started_s >= 0.2

    with_client(scenario, standin)


@pytest.mark.parametrize(
    ("status", "words"),
    [(408, b"RequestTimeout"), (429, b"TooManyRequests"), (500, b"InternalError"), (503, b"SlowDown")],
)
@pytest.mark.parametrize("retry_after", [None, "2"])
def test_storage_fails_in_xml(standin: StandIn, status: int, words: bytes, retry_after: str | None) -> None:
    async def scenario(client: Client) -> None:
        location = await client.locate()
        standin.faults.add(faults.Status(status, retry_after=retry_after), server="storage")
        actual, headers, body = await client.fetch(location)
        assert (actual, headers["content-type"], headers.get("retry-after")) == (
            status,
            "application/xml",
            retry_after,
        )
        assert words in body

    with_client(scenario, standin)


def test_the_registry_fails_in_json_with_the_words_given(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        denied = "User: x is not authorized to perform: ecr:BatchGetImage"
        standin.faults.add(faults.Status(429), server="registry", nth=1)
        standin.faults.add(faults.Status(403, code="DENIED", message=denied), server="registry", nth=2)
        standin.faults.add(faults.Status(502, body=b"<html>"), server="registry", nth=3)
        first, second, third = [await client.get("/v2/team/app/manifests/1.0") for _ in range(3)]
        assert (first[0], json.loads(first[2])["errors"][0]["code"]) == (429, "TOOMANYREQUESTS")
        assert (second[0], json.loads(second[2])["errors"][0]["message"]) == (403, denied)
        assert (third[0], third[2]) == (502, b"<html>")

    with_client(scenario, standin)


def test_a_range_may_be_ignored_or_answered_with_another(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        location = await client.locate()
        standin.faults.add(faults.IgnoreRange(), server="storage", nth=1)
        standin.faults.add(faults.WrongContentRange(shift=3), server="storage", nth=2)
        status, headers, body = await client.fetch(location, Range="bytes=5-9")
        assert (status, "content-range" in headers, body) == (200, False, BLOB)
        status, headers, body = await client.fetch(location, Range="bytes=5-9")
        assert (status, headers["content-range"], body) == (206, f"bytes 8-12/{len(BLOB)}", BLOB[5:10])

    with_client(scenario, standin)


@pytest.mark.parametrize(
    ("by_session", "status", "words"), [(False, 403, b"Request has expired"), (True, 400, b"ExpiredToken")]
)
def test_an_expired_link_stays_expired_and_a_new_one_is_good(
    standin: StandIn, by_session: bool, status: int, words: bytes
) -> None:
    async def scenario(client: Client) -> None:
        location = await client.locate()
        standin.faults.add(faults.ExpireLink(by_session=by_session), server="storage", times=1)
        for _ in range(2):
            answer = await client.fetch(location)
            assert (answer[0], words in answer[2]) == (status, True)
        assert (await client.fetch(await client.locate()))[0] == 200

    with_client(scenario, standin)


def test_an_expired_token_stays_expired_and_a_new_one_is_good(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        standin.faults.add(faults.ExpireToken(), server="registry", nth=2)
        assert [(await client.get("/v2/"))[0] for _ in range(3)] == [200, 403, 403]
        client.token = standin.tokens.issue(region="us-east-1").text
        assert (await client.get("/v2/"))[0] == 200

    with_client(scenario, standin)


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=600000-600001", "bytes=599000-"])
def test_one_bit_is_flipped_in_every_body_that_covers_it(standin: StandIn, wanted: str) -> None:
    async def scenario(client: Client) -> None:
        standin.faults.add(faults.Flip(600_000), digest=LAYER.digest, server="storage")
        location = await client.locate()
        _, _, body = await client.fetch(location, Range=wanted)
        start = int(wanted[6:].split("-", maxsplit=1)[0])
        right = BLOB[start : start + len(body)]
        wrong = [at for at, (a, b) in enumerate(zip(body, right, strict=True)) if a != b]
        assert wrong == [600_000 - start]
        assert (await client.fetch(location, Range="bytes=0-9"))[2] == BLOB[:10]

    with_client(scenario, standin)


def test_a_manifest_can_be_damaged_too(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        standin.faults.add(faults.Flip(0), digest=IMAGE.digest)
        body = (await client.get("/v2/team/app/manifests/1.0"))[2]
        assert (body[1:], body[0]) == (IMAGE.manifest_raw[1:], IMAGE.manifest_raw[0] ^ 1)

    with_client(scenario, standin)


def test_storage_may_redirect_to_another_host(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        port = standin.storage_host.partition(":")[2]
        standin.faults.add(faults.Redirect(f"127.0.0.1:{port}"), server="storage", times=1)
        status, headers, _ = await client.fetch(await client.locate())
        assert (status, URL(headers["location"]).host) == (307, "127.0.0.1")
        async with client.session.get(URL(headers["location"], encoded=True)) as response:
            assert await response.read() == BLOB

    with_client(scenario, standin)


def test_a_rule_fires_only_where_all_its_conditions_hold(standin: StandIn) -> None:
    async def statuses(*requests: Awaitable[tuple[int, dict[str, str], bytes]]) -> list[int]:
        return [(await each)[0] for each in requests]

    async def scenario(client: Client) -> None:
        location = await client.locate()
        rule = standin.faults.add(faults.Status(500), server="storage", covers=100, times=2)
        ranges = ["bytes=0-99", "bytes=50-149", "bytes=101-", "bytes=100-100", "bytes=0-"]
        got = await statuses(*(client.fetch(location, Range=each) for each in ranges))
        assert got == [206, 500, 206, 500, 206]
        assert (rule.seen, rule.fired) == (3, 2)
        standin.faults.clear()
        assert (await client.fetch(location))[0] == 200

    with_client(scenario, standin)


def test_chance_is_the_same_for_the_same_seed(standin: StandIn) -> None:
    async def scenario(client: Client) -> None:
        runs = []
        for _ in range(2):
            standin.faults.clear()
            standin.faults.add(faults.Status(500), path="/v2/", probability=0.5, seed=7)
            runs.append([(await client.get("/v2/"))[0] for _ in range(20)])
        assert runs[0] == runs[1]
        assert set(runs[0]) == {200, 500}

    with_client(scenario, standin)
