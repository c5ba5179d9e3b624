"""Logins out of docker's config.json, and from real credential helpers (small programs)."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ecr_async_pull.auth.docker_config import DockerConfig, Login
from ecr_async_pull.errors import AuthError


def login(tmp_path: Path, config: dict[str, Any] | bytes, registry: str) -> Login | None:
    path = tmp_path / "config.json"
    path.write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    return asyncio.run(DockerConfig(path).login(registry))


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


def install(directory: Path, name: str, script: str) -> None:
    program = directory / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("key", ["r.example:5000", "https://r.example:5000", "https://r.example:5000/v1/"])
def test_a_login_is_found_under_every_spelling_of_its_host(tmp_path: Path, key: str) -> None:
    found = login(tmp_path, {"auths": {key: auth("me:pa:ss")}}, "r.example:5000")
    assert found == Login(username="me", password="pa:ss")


def test_docker_hub_is_known_by_its_old_url(tmp_path: Path) -> None:
    assert login(tmp_path, {"auths": {"https://index.docker.io/v1/": auth("me:x")}}, "docker.io") is not None


def test_another_port_is_another_registry(tmp_path: Path) -> None:
    assert login(tmp_path, {"auths": {"r.example:5000": auth("me:x")}}, "r.example") is None


def test_an_identity_token_is_told_from_a_password(tmp_path: Path) -> None:
    found = login(
        tmp_path, {"auths": {"r.example": {**auth("00:"), "identitytoken": "refresh"}}}, "r.example"
    )
    assert found == Login(identity_token="refresh")


def test_secrets_are_not_shown_by_repr() -> None:
    assert "hush" not in repr(Login(username="me", password="hush", identity_token="hush"))


def test_a_missing_file_means_no_logins(tmp_path: Path) -> None:
    assert asyncio.run(DockerConfig(tmp_path / "none.json").login("r.example")) is None
    assert asyncio.run(DockerConfig(None).login("r.example")) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"auths": 1}', b"\xff"])
def test_a_broken_file_is_an_auth_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(AuthError, match=r"config\.json"):
        login(tmp_path, content, "r.example")


def test_an_unreadable_auth_is_an_auth_error(tmp_path: Path) -> None:
    with pytest.raises(AuthError, match=r"docker login r\.example"):
        login(tmp_path, {"auths": {"r.example": {"auth": "a"}}}, "r.example")


def test_a_helper_is_asked_for_its_host(tmp_path: Path, helpers: Path) -> None:
    install(
        helpers,
        "one",
        'read host; printf \'{"ServerURL":"%s","Username":"u","Secret":"for-%s"}\' "$host" "$host"',
    )
    found = login(
        tmp_path, {"credHelpers": {"r.example": "one"}, "auths": {"r.example": auth("no:no")}}, "r.example"
    )
    assert found == Login(username="u", password="for-r.example")


def test_a_store_without_the_login_gives_way_to_the_file(tmp_path: Path, helpers: Path) -> None:
    install(helpers, "empty", "echo credentials not found in native keychain; exit 1")
    config = {"credsStore": "empty", "auths": {"r.example": auth("me:x")}}
    assert login(tmp_path, config, "r.example") == Login(username="me", password="x")


def test_a_store_that_is_not_installed_gives_way_to_the_file(tmp_path: Path, helpers: Path) -> None:
    assert login(tmp_path, {"credsStore": "absent"}, "r.example") is None


@pytest.mark.parametrize(
    ("name", "script"),
    [("absent", None), ("fails", "exit 1"), ("babbles", "echo hello"), ("../../bin/sh", None)],
)
def test_a_helper_named_for_the_host_must_work(
    tmp_path: Path, helpers: Path, name: str, script: str | None
) -> None:
    if script:
        install(helpers, name, script)
    with pytest.raises(AuthError):
        login(tmp_path, {"credHelpers": {"r.example": name}}, "r.example")
