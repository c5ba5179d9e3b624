"""Who we are in ECR: the token call against moto, and tokens that expire against the local ECR."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecr_async_pull.auth.bearer import HttpAnswer
from ecr_async_pull.auth.credentials import Credentials
from ecr_async_pull.errors import AuthError
from ecr_async_pull.settings import ConnectionSettings

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
OTHER_ACCOUNT = "210987654321.dkr.ecr.eu-west-1.amazonaws.com"
OTHER_REGION = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
SCOPE = "repository:a:pull"
MOTO_TOKEN = "Basic " + base64.b64encode(b"AWS:123456789012-auth-token").decode()


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(home: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    return monkeypatch


async def no_fetch(url: str, *, authorization: str | None, form: Any) -> HttpAnswer:
    raise AssertionError


def credentials(cache: Path | None = None, **options: Any) -> Credentials:
    return Credentials(
        ConnectionSettings(token_cache_dir=cache),
        environment=dict(os.environ),
        fetch=no_fetch,
        connect_timeout_s=5.0,
        read_timeout_s=10.0,
        **options,
    )


def authorization(*hosts: str, cache: Path | None = None) -> list[str | None]:
    async def run() -> list[str | None]:
        who = credentials(cache)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(who.authorization(host, SCOPE)) for host in hosts]
        return [task.result() for task in tasks]

    return asyncio.run(run())


def token_calls(moto_url: str) -> int:
    """How many requests moto has seen; it keeps a record of those to AWS APIs."""
    import urllib.request

    with urllib.request.urlopen(f"{moto_url}/moto-api/recorder/download-recording") as answer:
        return len([line for line in answer.read().splitlines() if b"GetAuthorizationToken" in line])


@pytest.fixture
def recorded(
    moto_url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    from moto.moto_api import recorder

    # It has read MOTO_RECORDER_FILEPATH when moto was imported, and would write to the working directory.
    monkeypatch.setattr(recorder, "_location", str(tmp_path_factory.mktemp("moto") / "recording"))
    recorder.reset_recording()
    recorder.start_recording()
    yield moto_url
    recorder.stop_recording()


def test_a_region_is_asked_once_whatever_the_accounts_and_concurrency(
    aws: pytest.MonkeyPatch, recorded: str
) -> None:
    aws.setenv("AWS_ENDPOINT_URL_ECR", recorded)
    headers = authorization(*[HOST] * 5, *[OTHER_ACCOUNT] * 5)
    assert headers == [MOTO_TOKEN] * 10
    assert token_calls(recorded) == 1
    authorization(HOST, OTHER_REGION)
    assert token_calls(recorded) == 3


def test_a_token_is_kept_for_the_next_run_although_its_expiry_is_nonsense(
    aws: pytest.MonkeyPatch, recorded: str, tmp_path: Path
) -> None:
    """moto says that its tokens expired in 2015."""
    aws.setenv("AWS_ENDPOINT_URL_ECR", recorded)
    assert authorization(HOST, cache=tmp_path) == authorization(HOST, cache=tmp_path) == [MOTO_TOKEN]
    assert token_calls(recorded) == 1
    aws.setenv("AWS_ACCESS_KEY_ID", "AKIAANOTHER")
    authorization(HOST, cache=tmp_path)
    assert token_calls(recorded) == 2


def test_a_refused_token_is_renewed_once_for_all_and_forgotten_on_disk(
    aws: pytest.MonkeyPatch, recorded: str, tmp_path: Path
) -> None:
    aws.setenv("AWS_ENDPOINT_URL_ECR", recorded)
    authorization(HOST, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    entry = json.loads(kept.read_text())
    entry["authorization"] = "Basic old"
    kept.write_text(json.dumps(entry))

    async def run() -> list[str | None]:
        who = credentials(tmp_path)
        assert await who.authorization(HOST, SCOPE) == "Basic old"
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(who.renew(HOST, SCOPE, refused="Basic old", challenge=None))
                for _ in range(6)
            ]
        return [task.result() for task in tasks]

    assert asyncio.run(run()) == [MOTO_TOKEN] * 6
    assert token_calls(recorded) == 2
    assert json.loads(kept.read_text())["authorization"] == MOTO_TOKEN


SSO_PROFILE = """[profile p]
sso_session = s
sso_account_id = 123456789012
sso_role_name = r
region = eu-west-1
[sso-session s]
sso_start_url = https://example.awsapps.com/start
sso_region = eu-west-1
"""


@pytest.mark.parametrize(
    ("environment", "config", "host", "advice"),
    [
        ({}, "", HOST, "no AWS credentials"),
        ({"AWS_PROFILE": "absent"}, "", HOST, r"'absent'.*AWS_PROFILE"),
        ({"AWS_PROFILE": "p"}, SSO_PROFILE, HOST, "aws sso login --profile p"),
        ({"AWS_ACCESS_KEY_ID": "x"}, "", HOST, "incomplete"),
        ({"AWS_PROFILE": "p"}, "[profile p\n", HOST, "AWS config"),
        (
            {
                "AWS_ACCESS_KEY_ID": "x",
                "AWS_SECRET_ACCESS_KEY": "x",
                "AWS_ENDPOINT_URL_ECR": "http://127.0.0.1:1",
            },
            "",
            HOST,
            "can't be reached",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL_ECR": "nonsense"},
            "",
            HOST,
            "check the AWS config",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "HTTPS_PROXY": "http://127.0.0.1:1"},
            "",
            HOST,
            "HTTPS_PROXY",
        ),
    ],
)
def test_a_failed_login_is_one_line_that_says_what_to_do(  # noqa: PLR0917
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    environment: dict[str, str],
    config: str,
    host: str,
    advice: str,
) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(config)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    async def run() -> None:
        await credentials().authorization(host, SCOPE)

    with pytest.raises(AuthError, match=advice) as caught:
        asyncio.run(run())
    assert str(caught.value).isprintable()
    assert caplog.records == []


def answered(aws: pytest.MonkeyPatch, *, status: int, body: dict[str, str]) -> AuthError:
    """The error for this answer of the token API."""
    from tests.integration.registry_stub import RegistryStub, Say

    async def run() -> None:
        async with RegistryStub() as api:
            aws.setenv("AWS_ENDPOINT_URL_ECR", api.origin)
            api.say("POST", "/", Say(status=status, body=json.dumps(body).encode()))
            await credentials().authorization(HOST, SCOPE)

    with pytest.raises(AuthError) as caught:
        asyncio.run(run())
    return caught.value


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AccessDeniedException", "ecr:GetAuthorizationToken"),
        ("ExpiredTokenException", "expired"),
        ("UnrecognizedClientException", "keys"),
        ("SomethingElse", "SomethingElse"),
    ],
)
def test_a_refusal_of_the_token_api_says_what_to_do(aws: pytest.MonkeyPatch, code: str, advice: str) -> None:
    error = answered(aws, status=400, body={"__type": code, "message": "User: x is\nnot authorized"})
    assert advice in str(error)
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "body", [{}, {"authorizationData": []}, {"authorizationData": [{"authorizationToken": "a\r\nb"}]}]
)
def test_an_answer_without_a_usable_token_is_an_auth_error(aws: pytest.MonkeyPatch, body: Any) -> None:
    assert "usable token" in str(answered(aws, status=200, body=body))
